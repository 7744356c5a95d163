//! The binaries as processes: what they say and how they end when they are started wrongly.

use processors_common::testing::{Ended, assert_take_common_flags, run};

const DATABASE: &[&str] = &["--database", "postgres://nobody@127.0.0.1:1/none"];

const SENDER: &[&str] = &["--mail-from", "orders@example.org"];

const BINARIES: [(&str, &[&str]); 4] = [
    (env!("CARGO_BIN_EXE_orders-api"), &[]),
    (env!("CARGO_BIN_EXE_order-router"), &[]),
    (env!("CARGO_BIN_EXE_order-mailer"), SENDER),
    (env!("CARGO_BIN_EXE_order-sink"), DATABASE),
];

#[test]
fn all_take_the_same_common_flags_and_say_how_to_get_a_broker() {
    assert_take_common_flags(&BINARIES);
}

#[test]
fn a_sink_needs_a_database_and_never_shows_its_password() {
    let Ended { code, stderr, .. } = run(env!("CARGO_BIN_EXE_order-sink"), &[], &[]);
    assert!(code == Some(2) && stderr.contains("DATABASE_DSN"), "{stderr}");
    let Ended { code, stderr, .. } =
        run(env!("CARGO_BIN_EXE_order-sink"), &["--database", "postgres://ann:hush@x:port/y"], &[]);
    assert!(code == Some(2) && stderr.contains("postgres://USER@HOST"), "{stderr}");
    assert!(!stderr.contains("hush"), "{stderr}");
}

#[test]
fn a_mailer_needs_a_password_that_is_no_flag_and_an_encrypted_way_for_it() {
    let args = [SENDER, &["--smtp-user", "ann"]].concat();
    let Ended { code, stderr, .. } = run(env!("CARGO_BIN_EXE_order-mailer"), &args, &[]);
    assert!(code == Some(2) && stderr.contains("SMTP_PASSWORD"), "{stderr}");
    let (mailer, secret) = (env!("CARGO_BIN_EXE_order-mailer"), [("SMTP_PASSWORD", "hush")]);
    let Ended { code, stderr, .. } = run(mailer, &args, &secret);
    assert!(code == Some(2) && stderr.contains("--smtp-tls"), "{stderr}");
    assert!(!stderr.contains("hush"), "{stderr}");
}

#[test]
fn a_mailer_needs_a_sender() {
    let Ended { code, stderr, .. } = run(env!("CARGO_BIN_EXE_order-mailer"), &[], &[]);
    assert!(code == Some(2) && stderr.contains("--mail-from"), "{stderr}");
}
