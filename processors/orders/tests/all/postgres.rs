//! Rows in a real Postgres, whose URL is in `STREAM_TEST_POSTGRES`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orders::postgres::Postgres;
use orders::sink::{Rows, RowsError};
use orders::{Generator, Order};
use tokio_postgres::{Client, Config, NoTls};

fn config() -> Config {
    let url = std::env::var("STREAM_TEST_POSTGRES").expect("STREAM_TEST_POSTGRES=URL says where the Postgres is");
    url.parse().expect("STREAM_TEST_POSTGRES is a URL")
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A schema of this test's own: the table is made there, and nothing else is touched.
async fn fresh(test: &str) -> (Config, Client) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let schema = format!("{test}_{now}");
    let mut config = config();
    connect(&config).await.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    config.options(format!("-c search_path={schema}")).application_name(schema);
    let client = connect(&config).await;
    (config, client)
}

fn orders(count: usize) -> Vec<Order> {
    let mut generator = Generator::new(11, 0);
    (0..count).map(|_| generator.next().0).collect()
}

async fn ids(client: &Client) -> Vec<i32> {
    let rows = client.query("SELECT order_id FROM orders ORDER BY order_id", &[]).await.unwrap();
    rows.iter().map(|r| r.get(0)).collect()
}

#[tokio::test]
#[ignore = "needs a real Postgres: make test starts one where its binaries are"]
async fn real_postgres_rows_are_written_over_themselves() {
    let (config, client) = fresh("upserts").await;
    let rows = Postgres::new(config, Duration::from_secs(30));
    let mut orders = orders(400);
    for _ in 0..2 {
        rows.upsert(&orders.iter().collect::<Vec<_>>()).await.unwrap();
    }
    orders[7].quantity = 1234;
    rows.upsert(&[&orders[7]]).await.unwrap();
    assert_eq!(ids(&client).await, (1..=400).collect::<Vec<_>>());
    let columns = "name, email, street, city, state, postal_code, product_name, quantity, order_date::text, priority";
    let written = client.query(&format!("SELECT {columns} FROM orders ORDER BY order_id"), &[]).await.unwrap();
    for (order, row) in orders.iter().zip(written) {
        let (customer, address) = (&order.customer, &order.customer.address);
        let texts: [&str; 7] = [0, 1, 2, 3, 4, 5, 6].map(|column| row.get(column));
        let (street, city, state) = (&address.street, &address.city, &address.state);
        assert_eq!(
            texts,
            [&customer.name, &customer.email, street, city, state, &address.postal_code, &order.product_name]
                .map(|s| s.as_str())
        );
        assert_eq!(row.get::<_, i32>(7), order.quantity);
        assert_eq!(row.get::<_, &str>(8), order.order_date);
        assert_eq!(row.get::<_, &str>(9), order.priority.name());
    }
}

#[tokio::test]
#[ignore = "needs a real Postgres: make test starts one where its binaries are"]
async fn real_postgres_refuses_a_batch_as_a_whole_and_stays_usable() {
    let (config, client) = fresh("refused").await;
    let rows = Postgres::new(config, Duration::from_secs(30));
    let mut orders = orders(3);
    orders[1].customer.address.city = "a\0b".into();
    let error = rows.upsert(&orders.iter().collect::<Vec<_>>()).await.unwrap_err();
    assert!(matches!(&error, RowsError::Refused(why) if why.contains("22021")), "{error:?}");
    assert_eq!(ids(&client).await, Vec::<i32>::new());
    rows.upsert(&[&orders[0], &orders[2]]).await.unwrap();
    assert_eq!(ids(&client).await, [1, 3]);

    // The original's table is a narrower one.
    client.batch_execute("DELETE FROM orders; ALTER TABLE orders ALTER city TYPE VARCHAR(255)").await.unwrap();
    orders[1].customer.address.city = "x".repeat(10_000);
    let error = rows.upsert(&[&orders[1]]).await.unwrap_err();
    assert!(matches!(&error, RowsError::Refused(why) if why.contains("22001")), "{error:?}");
}

#[tokio::test]
#[ignore = "needs a real Postgres: make test starts one where its binaries are"]
async fn real_postgres_connections_that_are_cut_are_made_anew() {
    let (config, client) = fresh("cut").await;
    let rows = Arc::new(Postgres::new(config, Duration::from_secs(30)));
    let orders = orders(20);
    let mut cuts = 0;
    for order in &orders {
        let written = async {
            while let Err(error) = rows.upsert(&[order]).await {
                assert!(matches!(error, RowsError::Later(_)), "{error:?}");
                cuts += 1;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), written).await.unwrap();
        // As a restart of the server ends all connections.
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
            AND application_name = current_setting('application_name')";
        client.query(cut, &[]).await.unwrap();
    }
    assert!(cuts > 0);
    assert_eq!(ids(&client).await, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_database_that_is_not_there_is_waited_for() {
    let mut config: Config = "postgres://nobody@127.0.0.1:1/none".parse().unwrap();
    config.connect_timeout(Duration::from_secs(5));
    let rows = Postgres::new(config, Duration::from_secs(30));
    let error = rows.upsert(&[&orders(1)[0]]).await.unwrap_err();
    assert!(matches!(error, RowsError::Later(_)), "{error:?}");
}
