//! Who calls: somebody with a token.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use processors_common::http::Refusal;

use super::Api;
use crate::token::Claims;

/// Somebody whose token is good.
pub(super) struct Caller(pub(super) Claims);

impl Caller {
    pub(super) fn is(&self, user: &str) -> bool {
        self.0.user_id == user
    }
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let token = given.and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let none = || Refusal::new(StatusCode::UNAUTHORIZED, "no_token", "log in: POST /v1/login/ gives a token");
        let claims = api.tokens.check(token.ok_or_else(none)?);
        claims.map(Self).ok_or_else(|| Refusal::forbidden("bad_token", "the token is not good, or not any more"))
    }
}
