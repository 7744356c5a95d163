//! Mails by SMTP: one connection a mail, and what the server's answer means.
//!
//! Passwords go from the environment into the connection and nowhere else. Nothing of an order is put into a header but
//! through the mail builder, which encodes it.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use lettre::address::Address;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::response::Category;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::mailer::{Post, PostError};
use crate::order::Order;

/// How to reach the mail server.
#[derive(Clone, Debug)]
pub struct SmtpOptions {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who the mails are from.
    pub from: Mailbox,
    /// How long a step of the conversation may take.
    pub timeout: Duration,
    /// Whether it is encrypted.
    pub tls: SmtpTls,
    /// User and password.
    pub login: Option<Login>,
}

/// Whether the conversation is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SmtpTls {
    /// It is not
    #[default]
    None,
    /// After a greeting in the open, as on port 587
    Starttls,
    /// From the beginning, as on port 465
    Implicit,
}

/// User and password of the mail server.
#[derive(Clone)]
pub struct Login {
    /// Who.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

/// A mail server.
#[derive(Debug)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// A mail server that can't be used as it is described.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// The cargo feature is off.
    #[error(
        "this build has no TLS: build it with the cargo feature \"tls\", which needs the OpenSSL headers; with make: CARGO_FLAGS=\"--features tls\""
    )]
    NoTls,
    /// Everybody could read it.
    #[error("a password would go over the network in the open: use --smtp-tls starttls or implicit")]
    OpenPassword,
    /// TLS can't be set up.
    #[error("TLS to the mail server {host} can't be set up: {reason}")]
    Tls {
        /// The server.
        host: String,
        /// Why.
        reason: String,
    },
}

impl Smtp {
    /// Describes the connection; nothing is sent yet.
    ///
    /// # Errors
    /// When the options make no sense, or this build can't do what they ask.
    pub fn new(options: SmtpOptions) -> Result<Self, SmtpError> {
        let SmtpOptions { host, port, from, timeout, tls, login } = options;
        if tls == SmtpTls::None && login.is_some() {
            return Err(SmtpError::OpenPassword);
        }
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str());
        builder = encrypt(builder, &host, tls)?.port(port).timeout(Some(timeout));
        if let Some(Login { user, password }) = login {
            builder = builder.credentials(Credentials::new(user, password));
        }
        Ok(Self { transport: builder.build(), from })
    }

    fn mail(&self, order: &Order) -> Result<Message, PostError> {
        let never = |what: &str, error: &dyn std::fmt::Display| PostError::Never(format!("{what}: {error}"));
        let address: Address = order.customer.email.parse().map_err(|e| never("the customer's address", &e))?;
        let name = order.customer.name.replace(char::is_control, " ");
        let id = format!("<order-{}@{}>", order.order_id, self.from.email.domain());
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(Some(name), address))
            .subject(format!("Your order {}", order.order_id))
            .message_id(Some(id))
            .body(text(order))
            .map_err(|e| never("the mail", &e))
    }
}

/// What the customer reads.
fn text(order: &Order) -> String {
    let Order { order_id, customer, product_name, quantity, order_date, .. } = order;
    let name = &customer.name;
    format!(
        "Dear {name},\r\n\r\nwe have your order {order_id} of {order_date}: {quantity} x {product_name}. It has high priority and is on \
         its way soon.\r\n"
    )
}

impl Post for Smtp {
    fn send<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), PostError>> {
        async move {
            let mail = self.mail(order)?;
            match self.transport.send(mail).await {
                Ok(_) => Ok(()),
                // A refused login is no fault of the mail's, and 5xx all the same.
                Err(e) if e.is_permanent() && e.status().is_none_or(|c| c.category != Category::Unspecified3) => {
                    Err(PostError::Never(why(&e)))
                }
                Err(e) => Err(PostError::Later(why(&e))),
            }
        }
        .boxed()
    }
}

/// An error with what is behind it.
fn why(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

type Builder = lettre::transport::smtp::AsyncSmtpTransportBuilder;

#[cfg(feature = "tls")]
fn encrypt(builder: Builder, host: &str, tls: SmtpTls) -> Result<Builder, SmtpError> {
    use lettre::transport::smtp::client::{Tls, TlsParameters};
    let parameters = || {
        TlsParameters::new(host.to_owned()).map_err(|e| SmtpError::Tls { host: host.to_owned(), reason: e.to_string() })
    };
    Ok(builder.tls(match tls {
        SmtpTls::None => Tls::None,
        SmtpTls::Starttls => Tls::Required(parameters()?),
        SmtpTls::Implicit => Tls::Wrapper(parameters()?),
    }))
}

#[cfg(not(feature = "tls"))]
fn encrypt(builder: Builder, _: &str, tls: SmtpTls) -> Result<Builder, SmtpError> {
    if tls == SmtpTls::None { Ok(builder) } else { Err(SmtpError::NoTls) }
}
