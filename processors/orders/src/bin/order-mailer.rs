//! Mails the customers of urgent orders.
#![allow(clippy::doc_markdown, reason = "the comments of flags are what --help shows")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use lettre::message::Mailbox;
use orders::mailer::{self, Pace};
use orders::smtp::{Login, Smtp, SmtpOptions, SmtpTls};
use orders::topics::TopicNames;
use processors_common::{CommonArgs, Exit, REGISTRY_FLAGS, parse, run};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends a mail for each order in the topic of mails
///
/// While the mail server is away, or takes a mail later (4xx), it is tried again without end, each time after twice the wait. A
/// mail that the server refuses for good (5xx) is put aside with the reason. Whose mail is out is remembered: a record that
/// comes twice is one mail.
#[derive(Parser, Debug)]
#[command(name = "order-mailer", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    smtp: SmtpArgs,

    /// Wait before the second time; it doubles from time to time, up to half a minute
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    backoff: Duration,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

/// How to reach the mail server.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Mail server")]
struct SmtpArgs {
    /// Host of the mail server
    #[arg(long, value_name = "HOST", env = "SMTP_HOST", hide_env_values = true, default_value = "127.0.0.1")]
    smtp_host: String,

    /// Its port
    #[arg(long, value_name = "PORT", env = "SMTP_PORT", hide_env_values = true, default_value_t = 25)]
    smtp_port: u16,

    /// Whether the conversation is encrypted
    #[arg(long, value_name = "HOW", env = "SMTP_TLS", hide_env_values = true, default_value = "none")]
    smtp_tls: SmtpTls,

    /// Log in as this user. The password comes from $SMTP_PASSWORD, never from a flag
    #[arg(long, value_name = "NAME", env = "SMTP_USER", hide_env_values = true)]
    smtp_user: Option<String>,

    /// How long a step of the conversation may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    smtp_timeout: Duration,

    /// Who the mails are from: an address that the mail server lets this one send from
    #[arg(long, value_name = "ADDRESS", env = "MAIL_FROM", hide_env_values = true)]
    mail_from: Mailbox,
}

const EXAMPLES: &str = "Examples:
  order-mailer --brokers localhost:9092 --smtp-host mail.example.org --mail-from 'Orders <orders@example.org>'
  SMTP_PASSWORD=... order-mailer --smtp-host mail.example.org --smtp-port 587 --smtp-tls starttls \\
    --smtp-user orders --mail-from 'Orders <orders@example.org>'";

fn main() -> ExitCode {
    run(mail(parse(&[REGISTRY_FLAGS, &["router_group", "city_prefix", "sink_group"]])))
}

async fn mail(cli: Cli) -> Result<(), Exit> {
    let login = match cli.smtp.smtp_user.filter(|u| !u.is_empty()) {
        None => None,
        Some(user) => match std::env::var("SMTP_PASSWORD") {
            Ok(password) if !password.is_empty() => Some(Login { user, password }),
            _ => return Err(Exit::usage(format_args!("no password for user {user}: set SMTP_PASSWORD"))),
        },
    };
    let smtp = Smtp::new(SmtpOptions {
        host: cli.smtp.smtp_host,
        port: cli.smtp.smtp_port,
        from: cli.smtp.mail_from,
        timeout: cli.smtp.smtp_timeout,
        tls: cli.smtp.smtp_tls,
        login,
    });
    let smtp = smtp.map_err(Exit::usage)?;
    let log = cli.common.connect("order-mailer")?;
    cli.names.prepare(&log, &cli.common).await?;
    let pace = Pace { backoff: cli.backoff, ..Pace::default() };
    let graph = mailer::define(&cli.names, Arc::new(smtp), pace).build()?;
    cli.common.processor(graph, log).run_until_signal().await?;
    Ok(())
}
