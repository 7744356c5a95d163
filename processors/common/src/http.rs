//! What the systems' servers share: answers in JSON, errors as `{"code", "message"}`, for 422 also `"field"`; listening, and
//! an end that lets requests finish.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use stream_core::emitter::EmitError;
use stream_core::view::ViewError;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::exit::Exit;

/// How long requests that are under way have when a server is to end.
const GRACE: Duration = Duration::from_secs(15);

/// An answer that is an error.
#[derive(Debug, Serialize)]
pub struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    message: String,
}

impl Refusal {
    /// An error of any kind.
    pub fn new(status: StatusCode, code: &'static str, message: impl Display) -> Self {
        Self { status, code, field: None, message: message.to_string() }
    }

    /// What was sent is wrong.
    pub fn invalid(field: &'static str, problem: impl Display) -> Self {
        let message = format_args!("{field}: {problem}");
        Self { field: Some(field), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message) }
    }

    /// There is no such thing.
    pub fn not_found(code: &'static str, message: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// It is not theirs.
    pub fn forbidden(code: &'static str, message: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// Not now.
    pub fn unavailable(message: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// A body that is larger than `most` bytes.
    pub fn too_large(most: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format_args!("a body has at most {most} bytes"))
    }

    /// A body that can't be read, of which at most so many bytes are taken.
    pub fn body(rejection: &BytesRejection, most: usize) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(most),
            status => Self::new(status, "bad_request", "the body can't be read"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid("query", rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_path", rejection.body_text())
    }
}

/// The one part of a path that varies, such as an id. One that is no text, as `%ff`, is refused as everything is.
#[derive(Debug)]
pub struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) = Path::from_request_parts(parts, state).await?;
        Ok(Self(text))
    }
}

impl From<ViewError> for Refusal {
    fn from(error: ViewError) -> Self {
        let code = if matches!(error, ViewError::Restoring { .. }) { "catching_up" } else { "unavailable" };
        tracing::warn!(?error, "a view can't be read");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "what was asked for can't be read yet; try again later")
    }
}

impl From<EmitError> for Refusal {
    fn from(error: EmitError) -> Self {
        tracing::warn!(?error, "something was not written");
        if matches!(error, EmitError::Full { .. }) {
            return Self::unavailable("too much is waiting to be written; try again later");
        }
        // It may have been written all the same: sent again it may be there twice.
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unknown",
            "it is not known to be written; look before sending it again",
        )
    }
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Routes that take bodies of at most so many bytes; what is asked for beside them is refused as everything is.
pub fn bounded<S: Clone + Send + Sync + 'static>(routes: Router<S>, most: usize) -> Router<S> {
    routes
        .fallback(async || Refusal::not_found("not_found", "there is nothing here"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "not with this method")
        })
        .layer(DefaultBodyLimit::max(most))
}

/// Listens on an address, which was given in `flag`.
///
/// # Errors
/// When it can't.
pub async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, Exit> {
    let listening = TcpListener::bind(address).await;
    listening.map_err(|e| Exit::failed(format_args!("can't listen on {address}: {e}; choose another with {flag}")))
}

/// A server at work.
#[derive(Debug)]
pub struct Server {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Starts it.
    pub fn start(listener: TcpListener, routes: Router) -> Self {
        let (stop, stopping) = oneshot::channel();
        let server = axum::serve(listener, routes).with_graceful_shutdown(async { _ = stopping.await });
        Self { stop, serving: tokio::spawn(server.into_future()) }
    }

    /// Takes no more requests; resolves once those that are under way are answered, or after some time.
    ///
    /// # Errors
    /// When it has failed.
    pub async fn end(self) -> Result<(), Exit> {
        _ = self.stop.send(());
        if let Ok(ended) = timeout(GRACE, self.serving).await {
            ended??;
        }
        Ok(())
    }
}
