//! Recommendations over HTTP.
//!
//! | | |
//! |---|---|
//! | `GET /recommendations/{user_id}` | the user's newest: `{"user_id", "recommendations": [{"at_ms", "find_id", "find", "product"}]}` |
//! | `GET /tables…` | the table that they are read from, see [`Tables`] |
//!
//! Errors are JSON as those of [`Tables`]: 404 `no_recommendations`, 421 `not_here` on an instance that does not have the
//! user, 503 while it is being restored.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use processors_common::http::{PathText, Refusal, bounded, json};
use serde::Serialize;
use stream_core::monitor::Tables;
use stream_core::processor::{Handle, ReadError};

use crate::recommendation::{Latest, Recommended};

/// The largest body that is taken; nothing here reads one.
const BODY: usize = 1024;

/// The routes, of a running [users' group](crate::recommend::users).
pub fn routes(users: &Handle) -> Router {
    let routes = Router::new()
        .route("/recommendations/{user_id}", get(of_user))
        .with_state(users.clone())
        .merge(Tables::new().group(users).router());
    bounded(routes, BODY)
}

#[derive(Serialize)]
struct OfUser {
    user_id: String,
    recommendations: Vec<Recommended>,
}

async fn of_user(State(users): State<Handle>, PathText(user_id): PathText) -> Result<Response, ReadError> {
    let Some(Latest { recommendations }) = users.get(&user_id).await? else {
        let message = "nothing that this user searched for has been in the shop so far";
        return Ok(Refusal::not_found("no_recommendations", message).into_response());
    };
    Ok(json(StatusCode::OK, &OfUser { user_id, recommendations }))
}
