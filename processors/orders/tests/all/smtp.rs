//! Mails by SMTP, to a server in this process.

use std::time::Duration;

use crate::fake_smtp::{At, FakeSmtp};
use orders::mailer::{Post, PostError};
use orders::smtp::{Login, Smtp, SmtpError, SmtpOptions, SmtpTls};
use orders::{Generator, Order};

fn options(port: u16) -> SmtpOptions {
    SmtpOptions {
        host: "127.0.0.1".into(),
        port,
        from: "Orders <orders@example.org>".parse().unwrap(),
        timeout: Duration::from_secs(10),
        tls: SmtpTls::None,
        login: None,
    }
}

fn order() -> Order {
    Generator::new(1, 0).next().0
}

#[tokio::test]
async fn a_mail_arrives_with_what_was_ordered() {
    let server = FakeSmtp::start().await;
    let order = order();
    Smtp::new(options(server.port())).unwrap().send(&order).await.unwrap();
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!((mails[0].from.as_str(), mails[0].to.as_str()), ("orders@example.org", "customer1@example.org"));
    let text = &mails[0].text;
    for part in [
        "Subject: Your order 1\r\n",
        "Message-ID: <order-1@example.org>\r\n",
        "we have your order 1 of 2025-",
        "MIME-Version: 1.0\r\n",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "\r\nDate: ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_name_is_never_a_header_nor_a_command() {
    let server = FakeSmtp::start().await;
    let smtp = Smtp::new(options(server.port())).unwrap();
    let mut order = order();
    order.customer.name = "Ann\r\nBcc: all@example.org\r\n\r\n.\r\nQUIT\r\n".into();
    order.product_name = "東京\r\n.\r\nMAIL FROM:<x@example.org>\r\n".into();
    smtp.send(&order).await.unwrap();
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    let (head, _) = mails[0].text.split_once("\r\n\r\n").unwrap();
    assert!(!head.lines().any(|l| l.to_lowercase().starts_with("bcc")), "{head}");

    for email in [
        "ann@example.org\r\nRCPT TO:<all@example.org>",
        "ann",
        "",
        "a b@example.org",
        "ann@example.org, bob@example.org",
    ] {
        order.customer.email = email.into();
        let error = smtp.send(&order).await.unwrap_err();
        assert!(matches!(&error, PostError::Refused(why) if why.contains("address")), "{email:?}: {error:?}");
    }
    assert_eq!(server.mails().len(), 1);
}

/// Whose fault an error is.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Server,
    NotYet,
    Mail,
}

async fn fault(smtp: &Smtp) -> Fault {
    match smtp.send(&order()).await.unwrap_err() {
        PostError::Server(_) => Fault::Server,
        PostError::NotYet(_) => Fault::NotYet,
        PostError::Refused(_) => Fault::Mail,
    }
}

#[tokio::test]
async fn only_a_recipient_or_a_mail_that_is_refused_for_good_is_the_mails_fault() {
    let server = FakeSmtp::start().await;
    let smtp = Smtp::new(options(server.port())).unwrap();
    for (at, answer, expected) in [
        (At::Greeting, "554 5.3.2 no service", Fault::Server),
        (At::Greeting, "421 4.3.2 too many connections", Fault::Server),
        (At::Hello, "550 5.7.1 who are you", Fault::Server),
        (At::Sender, "550 5.1.8 no such sender", Fault::Server),
        (At::Sender, "451 4.3.0 try later", Fault::Server),
        (At::Recipient, "451 4.3.0 try later", Fault::NotYet),
        (At::Recipient, "421 4.3.2 shutting down", Fault::Server),
        (At::Recipient, "550 5.1.1 no such mailbox", Fault::Mail),
        (At::Recipient, "530 5.7.0 log in first", Fault::Server),
        (At::Recipient, "nonsense", Fault::Server),
        (At::Data, "451 4.3.0 try later", Fault::NotYet),
        (At::Body, "452 4.3.1 the disk is full", Fault::NotYet),
        (At::Body, "552 5.3.4 too big", Fault::Mail),
    ] {
        server.answer(at, answer);
        assert_eq!(fault(&smtp).await, expected, "{at:?}: {answer}");
        server.answer_as_usual();
    }
    assert!(server.mails().is_empty());
    smtp.send(&order()).await.unwrap();
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_no_fault_of_the_mails() {
    let server = FakeSmtp::start().await;
    let port = server.port();
    let smtp = Smtp::new(SmtpOptions { timeout: Duration::from_millis(100), ..options(port) }).unwrap();
    for at in [At::Greeting, At::Hello, At::Sender, At::Recipient, At::Data, At::Body] {
        server.answer(at, "");
        assert_eq!(fault(&smtp).await, Fault::Server, "{at:?}");
        server.answer_as_usual();
    }
    drop(server);
    assert_eq!(fault(&Smtp::new(options(port)).unwrap()).await, Fault::Server);
}

#[test]
fn a_password_never_goes_over_the_network_in_the_open() {
    let login = Some(Login { user: "ann".into(), password: "hush".into() });
    let error = Smtp::new(SmtpOptions { login: login.clone(), ..options(1) }).unwrap_err();
    assert!(matches!(error, SmtpError::OpenPassword), "{error}");
    assert!(!format!("{login:?}").contains("hush"));
    let encrypted = Smtp::new(SmtpOptions { tls: SmtpTls::Starttls, login, ..options(1) });
    assert_eq!(encrypted.is_ok(), cfg!(feature = "tls"));
}
