//! What only the chat refuses. The rest is as everywhere.

use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use processors_common::http::Refusal;

use super::BODY;
use crate::accounts::AccountsError;

/// A form that can't be read.
pub(super) fn form(rejection: FormRejection) -> Refusal {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large(BODY),
        _ => Refusal::invalid("body", "must be a form with the fields username and password"),
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
