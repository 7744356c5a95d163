//! Mails by SMTP: one connection a mail, and whose fault an answer is.
//!
//! Until the server has taken the sender, whatever goes wrong is the server's fault, or that of its settings here. A recipient
//! or a mail that it refuses for good (5xx) is the mail's fault. So is nothing else.
//!
//! Passwords go from the environment into the connection and nowhere else. Nothing of an order is put into a header but
//! through the mail builder, which encodes it.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use lettre::address::{Address, Envelope};
use lettre::message::{Mailbox, Message, SinglePart};
use lettre::transport::smtp::Error as LettreError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::AsyncSmtpConnection;
#[cfg(feature = "tls")]
use lettre::transport::smtp::client::TlsParameters;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::{Category, Code};

use tokio::time::timeout;

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
    host: String,
    port: u16,
    from: Mailbox,
    timeout: Duration,
    encryption: Encryption,
    login: Option<Login>,
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
        let encryption = Encryption::new(&host, tls)?;
        Ok(Self { host, port, from, timeout, encryption, login })
    }

    fn mail(&self, order: &Order) -> Result<Message, PostError> {
        let never = |what: &str, error: &dyn std::fmt::Display| PostError::Refused(format!("{what}: {error}"));
        let address: Address = order.customer.email.parse().map_err(|e| never("the customer's address", &e))?;
        let name = order.customer.name.replace(char::is_control, " ");
        let id = format!("<order-{}@{}>", order.order_id, self.from.email.domain());
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(Some(name), address))
            .subject(format!("Your order {}", order.order_id))
            .message_id(Some(id))
            .singlepart(SinglePart::plain(text(order)))
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

impl Smtp {
    /// A conversation that has come up to the mail itself.
    async fn connect(&self) -> Result<AsyncSmtpConnection, PostError> {
        let (server, hello) = ((self.host.as_str(), self.port), ClientId::default());
        let connect = self.encryption.connect(server, self.timeout, &hello);
        let mut connection = self.step("connect", connect).await?.map_err(server_fault)?;
        if let Some(Login { user, password }) = &self.login {
            let credentials = Credentials::new(user.clone(), password.clone());
            let login = connection.auth(DEFAULT_MECHANISMS, &credentials);
            self.step("log in", login).await?.map_err(server_fault)?;
        }
        Ok(connection)
    }

    async fn converse(&self, connection: &mut AsyncSmtpConnection, mail: &Message) -> Result<(), PostError> {
        let envelope: &Envelope = mail.envelope();
        let mut options = Vec::new();
        if envelope.from().into_iter().chain(envelope.to()).any(|address| !address.to_string().is_ascii()) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(PostError::Refused("the server takes no address outside of ASCII (no SMTPUTF8)".into()));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        let sender = connection.command(Mail::new(envelope.from().cloned(), options));
        self.step("MAIL", sender).await?.map_err(server_fault)?;
        for to in envelope.to() {
            let recipient = connection.command(Rcpt::new(to.clone(), Vec::new()));
            self.step("RCPT", recipient).await?.map_err(fault)?;
        }
        self.step("DATA", connection.command(Data)).await?.map_err(fault)?;
        self.step("the mail", connection.message(&mail.formatted())).await?.map_err(fault)?;
        Ok(())
    }

    /// A step of the conversation takes no longer than the timeout: a server that is silent would hold the mails up for good.
    async fn step<T>(&self, what: &str, step: impl Future<Output = T>) -> Result<T, PostError> {
        timeout(self.timeout, step)
            .await
            .map_err(|_| PostError::Server(format!("{what}: no answer for {:?}", self.timeout)))
    }
}

impl Post for Smtp {
    fn send<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), PostError>> {
        async move {
            let mail = self.mail(order)?;
            let mut connection = self.connect().await?;
            let sent = self.converse(&mut connection, &mail).await;
            // The server has the mail, or has it not: what it answers to the farewell changes nothing.
            _ = timeout(self.timeout, connection.abort()).await;
            sent
        }
        .boxed()
    }
}

/// Anything before the server has taken the sender.
fn server_fault(error: LettreError) -> PostError {
    PostError::Server(why(&error))
}

/// What the server answers to a recipient or to a mail. A login that it wants first (x3x) is no fault of the mail's, and 5xx
/// all the same; 421 ends the conversation, whatever it answers to.
fn fault(error: LettreError) -> PostError {
    const SHUTTING_DOWN: u16 = 421;
    let is = |wanted: fn(&Code) -> bool| error.status().as_ref().is_some_and(wanted);
    if is(|code| u16::from(*code) == SHUTTING_DOWN || code.category == Category::Unspecified3) {
        PostError::Server(why(&error))
    } else if error.is_permanent() {
        PostError::Refused(why(&error))
    } else if error.is_transient() {
        PostError::NotYet(why(&error))
    } else {
        PostError::Server(why(&error))
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

/// How a connection is encrypted.
enum Encryption {
    None,
    #[cfg(feature = "tls")]
    Tls {
        parameters: TlsParameters,
        at_once: bool,
    },
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            #[cfg(feature = "tls")]
            Self::Tls { at_once: true, .. } => "Implicit",
            #[cfg(feature = "tls")]
            Self::Tls { .. } => "Starttls",
        })
    }
}

impl Encryption {
    #[cfg(feature = "tls")]
    fn new(host: &str, tls: SmtpTls) -> Result<Self, SmtpError> {
        let at_once = match tls {
            SmtpTls::None => return Ok(Self::None),
            SmtpTls::Starttls => false,
            SmtpTls::Implicit => true,
        };
        let parameters = TlsParameters::new(host.to_owned())
            .map_err(|e| SmtpError::Tls { host: host.to_owned(), reason: e.to_string() })?;
        Ok(Self::Tls { parameters, at_once })
    }

    #[cfg(not(feature = "tls"))]
    fn new(_: &str, tls: SmtpTls) -> Result<Self, SmtpError> {
        if tls == SmtpTls::None { Ok(Self::None) } else { Err(SmtpError::NoTls) }
    }

    async fn connect(
        &self,
        server: (&str, u16),
        timeout: Duration,
        hello: &ClientId,
    ) -> Result<AsyncSmtpConnection, LettreError> {
        let timeout = Some(timeout);
        match self {
            Self::None => AsyncSmtpConnection::connect_tokio1(server, timeout, hello, None, None).await,
            #[cfg(feature = "tls")]
            Self::Tls { parameters, at_once: true } => {
                AsyncSmtpConnection::connect_tokio1(server, timeout, hello, Some(parameters.clone()), None).await
            }
            #[cfg(feature = "tls")]
            Self::Tls { parameters, at_once: false } => {
                let mut connection = AsyncSmtpConnection::connect_tokio1(server, timeout, hello, None, None).await?;
                connection.starttls(parameters.clone(), hello).await?;
                Ok(connection)
            }
        }
    }
}
