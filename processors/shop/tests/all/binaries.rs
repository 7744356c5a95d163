//! The binaries as processes: what they say and how they end when they are started wrongly.

use processors_common::testing::{Ended, assert_take_common_flags, run};

const BINARIES: [(&str, &[&str]); 5] = [
    (env!("CARGO_BIN_EXE_shop"), &[]),
    (env!("CARGO_BIN_EXE_product-filter"), &[]),
    (env!("CARGO_BIN_EXE_personal-recommendations"), &["--http", "127.0.0.1:0"]),
    (env!("CARGO_BIN_EXE_search-prompt"), &["--user", "ann"]),
    (env!("CARGO_BIN_EXE_shop-topics"), &["create"]),
];

#[test]
fn without_a_broker_each_says_how_to_get_one() {
    for (binary, args) in BINARIES {
        let Ended { code, stderr, .. } = run(binary, args, &[]);
        assert_eq!(code, Some(2), "{binary}: {stderr}");
        assert!(stderr.contains("--brokers") && stderr.contains("KAFKA_BROKERS"), "{binary}: {stderr}");
        assert!(stderr.contains("make kafka-up") && stderr.contains("make demo"), "{binary}: {stderr}");
    }
}

#[test]
fn all_take_the_same_common_flags_and_show_examples() {
    assert_take_common_flags(&BINARIES);
}

#[test]
fn a_bad_pattern_is_refused_before_anything_is_done() {
    let Ended { code, stderr, .. } = run(env!("CARGO_BIN_EXE_product-filter"), &["--regex", "lamp("], &[]);
    assert_eq!(code, Some(2));
    assert_eq!(stderr, "error: \"lamp(\" is not a regular expression: unclosed group\n");
}

#[test]
fn a_user_needs_a_password_that_is_no_flag() {
    let args = ["--brokers", "127.0.0.1:1", "--sasl-user", "ann"];
    let Ended { code, stderr, .. } = run(env!("CARGO_BIN_EXE_shop"), &args, &[]);
    assert!(code == Some(2) && stderr.contains("KAFKA_SASL_PASSWORD"), "{stderr}");
}

#[test]
fn a_login_needs_a_user() {
    for args in [["--sasl-mechanism", "plain"], ["--sasl-password-file", "x"]] {
        let Ended { code, stderr, .. } =
            run(env!("CARGO_BIN_EXE_shop"), &[&["--brokers", "127.0.0.1:1"], &args[..]].concat(), &[]);
        assert!(code == Some(2) && stderr.contains("--sasl-user"), "{stderr}");
    }
    let secret = [("KAFKA_SASL_PASSWORD", "hush")];
    let Ended { code, stderr, .. } = run(env!("CARGO_BIN_EXE_shop"), &["--brokers", "127.0.0.1:1"], &secret);
    assert!(code == Some(2) && stderr.contains("KAFKA_SASL_PASSWORD is set"), "{stderr}");
    assert!(!stderr.contains("hush"));
}

#[test]
fn what_a_build_lacks_is_named_with_the_way_to_get_it() {
    if cfg!(feature = "tls") {
        return;
    }
    for args in [&["--tls"][..], &["--sasl-user", "ann"]] {
        let args = [&["--brokers", "127.0.0.1:1"], args].concat();
        let Ended { stderr, .. } = run(env!("CARGO_BIN_EXE_shop"), &args, &[("KAFKA_SASL_PASSWORD", "hush")]);
        assert!(stderr.contains("CARGO_FLAGS=\"--features tls\""), "{stderr}");
    }
}

#[test]
fn avro_needs_a_registry() {
    let args = ["--brokers", "127.0.0.1:1", "--format", "avro"];
    let Ended { code, stderr, .. } = run(env!("CARGO_BIN_EXE_shop"), &args, &[]);
    let expected = if cfg!(feature = "avro") { "--schema-registry" } else { "cargo feature \"avro\"" };
    assert!(code == Some(2) && stderr.contains(expected), "{stderr}");
}
