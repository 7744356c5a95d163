//! Accounts and logging in.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FormRejection};
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::Response;
use processors_common::http::{Refusal, json};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Api;
use super::fields::Fields;
use super::refusal::form;
use crate::accounts::Account;

/// Characters.
const NAME: usize = 64;
const PASSWORD: usize = 128;
const SHORTEST_PASSWORD: usize = 8;

#[derive(Serialize)]
struct Created<'a> {
    id: &'a str,
    username: &'a str,
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let fields = Fields::read(body)?;
    let username = fields.text("username", NAME)?;
    if username.trim() != username || username.chars().any(char::is_control) {
        return Err(Refusal::invalid("username", "must have no control characters, nor begin or end with a space"));
    }
    let password = fields.text("password", PASSWORD)?;
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(Refusal::invalid("password", format_args!("must have at least {SHORTEST_PASSWORD} characters")));
    }
    // Before the work of hashing; the last word is the store's.
    if api.accounts.named(username).await?.is_some() {
        return Err(crate::accounts::AccountsError::Taken.into());
    }
    let hash = api.passwords.hash(password.to_owned()).await;
    let hash = hash.ok_or_else(|| Refusal::unavailable("the password can't be kept at the moment"))?;
    let account = Account { id: Uuid::new_v4().to_string(), username: username.to_owned(), hash };
    api.accounts.create(&account).await?;
    Ok(json(StatusCode::CREATED, &Created { id: &account.id, username }))
}

/// What is typed at the door.
#[derive(Deserialize)]
pub(super) struct Login {
    username: String,
    password: String,
}

#[derive(Serialize)]
struct Admitted<'a> {
    access_token: String,
    token_type: &'static str,
    id: &'a str,
    username: &'a str,
}

pub(super) async fn log_in(
    State(api): State<Arc<Api>>,
    login: Result<Form<Login>, FormRejection>,
) -> Result<Response, Refusal> {
    let Form(Login { username, password }) = login.map_err(form)?;
    let account = api.accounts.named(&username).await?;
    let hash = account.as_ref().map(|a| a.hash.clone());
    let fits = api.passwords.verify(password, hash).await;
    let Some(account) = account.filter(|_| fits) else {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "bad_login", "the username or the password is wrong"));
    };
    let access_token = api.tokens.issue(&account.id).ok_or_else(|| Refusal::unavailable("no token can be made"))?;
    let Account { id, username, .. } = &account;
    Ok(json(StatusCode::OK, &Admitted { access_token, token_type: "Bearer", id, username }))
}
