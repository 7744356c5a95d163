//! Answers: JSON, and errors as `{"code", "message"}`, for 422 also `"field"`.

use std::fmt::Display;

use axum::extract::rejection::{BytesRejection, FormRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use stream_core::emitter::EmitError;
use stream_core::view::ViewError;

use super::BODY;
use crate::accounts::AccountsError;

/// An answer that is an error.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Display) -> Self {
        Self { status, code, field: None, message: message.to_string() }
    }

    pub(super) fn invalid(field: &'static str, problem: impl Display) -> Self {
        let message = format_args!("{field}: {problem}");
        Self { field: Some(field), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message) }
    }

    pub(super) fn not_found(code: &'static str, message: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn forbidden(code: &'static str, message: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(super) fn unavailable(message: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    fn body(status: StatusCode) -> Self {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, "too_large", format_args!("a body has at most {BODY} bytes"))
            }
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

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        Self::body(rejection.status())
    }
}

impl From<FormRejection> for Refusal {
    fn from(rejection: FormRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::body(StatusCode::PAYLOAD_TOO_LARGE),
            _ => Self::invalid("body", "must be a form with the fields username and password"),
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid("query", rejection.body_text())
    }
}

impl From<ViewError> for Refusal {
    fn from(error: ViewError) -> Self {
        let code = if matches!(error, ViewError::Restoring { .. }) { "catching_up" } else { "unavailable" };
        tracing::warn!(%error, "a view can't be read");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "what was asked for can't be read yet; try again later")
    }
}

impl From<AccountsError> for Refusal {
    fn from(error: AccountsError) -> Self {
        if error == AccountsError::Taken {
            return Self::new(StatusCode::CONFLICT, "username_taken", error);
        }
        tracing::warn!(%error, "accounts are out of reach");
        Self::unavailable("the accounts are out of reach; try again later")
    }
}

impl From<EmitError> for Refusal {
    fn from(error: EmitError) -> Self {
        tracing::warn!(%error, "something was not written");
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
