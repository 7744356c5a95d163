//! Accounts in a file and, with a URL in `STREAM_TEST_POSTGRES`, in a real Postgres: the same is asked of both.

use chat::accounts::{Account, Accounts, AccountsError, FileAccounts, Passwords};

fn account(id: &str, username: &str) -> Account {
    Account { id: id.into(), username: username.into(), hash: format!("hash of {id}") }
}

/// What any store of accounts does.
async fn keeps_accounts(accounts: &dyn Accounts) {
    let (ann, quote) = (account("1", "ann"), account("2", "x'; DROP TABLE chat_accounts; --"));
    assert_eq!(accounts.named("ann").await, Ok(None));
    for account in [&ann, &quote] {
        accounts.create(account).await.unwrap();
        assert_eq!(accounts.named(&account.username).await, Ok(Some(account.clone())));
        assert_eq!(accounts.with_id(&account.id).await, Ok(Some(account.clone())));
    }
    // The answer to the first time may have been lost.
    accounts.create(&ann).await.unwrap();
    assert_eq!(accounts.create(&account("3", "ann")).await, Err(AccountsError::Taken));
    assert_eq!(accounts.with_id("3").await, Ok(None));
    assert_eq!(accounts.named("ann").await, Ok(Some(ann)));
    assert_eq!(accounts.named("Ann").await, Ok(None));
}

/// Of many who want a name at once, one gets it.
async fn gives_a_name_once(accounts: &dyn Accounts) {
    let all: Vec<Account> = (0..20).map(|n| account(&format!("many-{n}"), "wanted")).collect();
    let made = futures::future::join_all(all.iter().map(|a| accounts.create(a))).await;
    let first: Vec<usize> = (0..20).filter(|n| made[*n].is_ok()).collect();
    assert_eq!(first.len(), 1, "{made:?}");
    assert!(made.iter().all(|m| matches!(m, Ok(()) | Err(AccountsError::Taken))), "{made:?}");
    assert_eq!(accounts.named("wanted").await, Ok(Some(all[first[0]].clone())));
}

#[tokio::test]
async fn a_file_keeps_them_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts");
    let accounts = FileAccounts::open(&path).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "its owner's alone");
    }
    keeps_accounts(&accounts).await;
    gives_a_name_once(&accounts).await;
    let second = FileAccounts::open(&path).unwrap_err();
    assert!(matches!(second, AccountsError::Unavailable(_)), "one process at a time: {second}");
    drop(accounts);
    let accounts = FileAccounts::open(&path).unwrap();
    assert_eq!(accounts.named("ann").await, Ok(Some(account("1", "ann"))));
}

#[tokio::test]
async fn a_password_is_verified_by_its_hash_only() {
    let passwords = Passwords::new().unwrap();
    let hash = passwords.hash("correct horse".into()).await.unwrap();
    assert!(hash.starts_with("$argon2id$") && !hash.contains("correct"), "{hash}");
    assert_ne!(passwords.hash("correct horse".into()).await.unwrap(), hash, "each has a salt of its own");
    assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await);
    assert!(!passwords.verify("Correct horse".into(), Some(hash)).await);
    assert!(!passwords.verify("correct horse".into(), None).await);
    assert!(!passwords.verify("nobody's".into(), None).await, "nobody's password lets nobody in");
    assert!(!passwords.verify("x".into(), Some("x".into())).await);
    assert!(!format!("{:?}", account("1", "ann")).contains("hash"), "a hash is in no log");
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use chat::accounts::PostgresAccounts;
    use tokio_postgres::{Client, Config, NoTls};

    use super::*;

    async fn connect(config: &Config) -> Client {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A schema of this test's own: the table is made there, and nothing else is touched.
    async fn fresh(test: &str) -> (Config, Client) {
        let url = std::env::var("STREAM_TEST_POSTGRES").expect("STREAM_TEST_POSTGRES=URL says where the Postgres is");
        let mut config: Config = url.parse().expect("STREAM_TEST_POSTGRES is a URL");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let schema = format!("{test}_{now}");
        connect(&config).await.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
        config.options(format!("-c search_path={schema}")).application_name(schema);
        let client = connect(&config).await;
        (config, client)
    }

    fn accounts(config: Config) -> PostgresAccounts {
        PostgresAccounts::new(config, Duration::from_secs(30))
    }

    #[tokio::test]
    #[ignore = "needs a real Postgres: make test starts one where its binaries are"]
    async fn real_postgres_keeps_accounts() {
        let (config, _client) = fresh("accounts").await;
        let first = accounts(config.clone());
        keeps_accounts(&first).await;
        gives_a_name_once(&first).await;
        assert_eq!(accounts(config).named("ann").await, Ok(Some(account("1", "ann"))), "another instance has it");
    }

    #[tokio::test]
    #[ignore = "needs a real Postgres: make test starts one where its binaries are"]
    async fn real_postgres_connections_that_are_cut_are_made_anew() {
        let (config, client) = fresh("cut").await;
        let accounts = accounts(config);
        for n in 0..10 {
            let account = account(&n.to_string(), &format!("name {n}"));
            accounts.create(&account).await.unwrap();
            // As a restart of the server ends all connections.
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                AND application_name = current_setting('application_name')";
            client.query(cut, &[]).await.unwrap();
            assert_eq!(accounts.with_id(&account.id).await, Ok(Some(account)));
        }
    }

    #[tokio::test]
    async fn a_database_that_is_not_there_is_an_error_without_its_password() {
        let mut config: Config = "postgres://nobody:hush@127.0.0.1:1/none".parse().unwrap();
        config.connect_timeout(Duration::from_secs(5));
        let accounts = accounts(config);
        let error = accounts.named("ann").await.unwrap_err();
        assert!(matches!(error, AccountsError::Unavailable(_)), "{error}");
        assert!(!format!("{error} {accounts:?}").contains("hush"));
    }
}
