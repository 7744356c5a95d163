//! Orders over HTTP.
//!
//! | | |
//! |---|---|
//! | `GET /` | a greeting |
//! | `POST /orders` | takes an order: 202 with its id once Kafka has it, 409 if its id is another order's, 422 with the field that is wrong, 503 when it is not known to be written |
//! | `GET /orders?city=&priority=&after=&limit=` | the orders that were routed, in the order of their ids as text; `Link` leads to the next page |
//! | `GET /orders/{id}` | one of them |
//!
//! Errors are JSON: `{"code", "message"}`, for 422 also `"field"`. What is shown is the router's table as it is committed,
//! of which every instance of this has a full copy.

use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use processors_common::http::{PathText, Refusal, bounded, json};
use serde::{Deserialize, Serialize};
use stream_core::emitter::{EmitError, Emitter};
use stream_core::view::{View, ViewError};

use crate::order::{Invalid, Order, Priority};
use crate::router::Accepted;

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    /// Writes to the orders' topic.
    pub orders: Emitter<Order>,
    /// The router's table.
    pub table: View<Accepted>,
}

/// The largest body that is taken. An order as large as its fields may be has a tenth of it.
const BODY: usize = 64 * 1024;
/// Orders a page, at most and by default.
const PAGE: usize = 1000;
const DEFAULT_PAGE: usize = 100;
/// Orders that are looked at for a page. A filter that lets few through has short pages, but no slow ones.
const LOOKED_AT: usize = 20_000;

/// All routes.
pub fn routes(api: Arc<Api>) -> axum::Router {
    let routes = axum::Router::new()
        .route("/", get(async || "Orders: POST /orders takes one, GET /orders shows them.\n"))
        .route("/orders", get(list).post(take))
        .route("/orders/{id}", get(one));
    bounded(routes, BODY).with_state(api)
}

impl From<Invalid> for Refusal {
    fn from(Invalid { field, problem }: Invalid) -> Self {
        Self::invalid(field, problem)
    }
}

fn unreadable(error: ViewError) -> Refusal {
    tracing::warn!(?error, "the table can't be read");
    Refusal::unavailable("the orders can't be read at the moment")
}

#[derive(Serialize)]
struct Taken {
    order_id: i32,
}

async fn take(State(api): State<Arc<Api>>, body: Result<Bytes, BytesRejection>) -> Result<Response, Refusal> {
    let order = Order::parse(&body.map_err(|e| Refusal::body(&e, BODY))?)?;
    order.check()?;
    let key = order.key();
    // A table that can't be read yet refuses nothing: the router decides, and puts the second of two orders of an id aside.
    if let Ok(Some(known)) = api.table.get(&key)
        && known.order != order
    {
        let message = format_args!("there is another order with the id {key}; an order can't be changed");
        return Err(Refusal::new(StatusCode::CONFLICT, "other_order", message));
    }
    let written = match api.orders.try_emit(&key, &order) {
        Ok(acknowledged) => acknowledged.await,
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => Ok(json(StatusCode::ACCEPTED, &Taken { order_id: order.order_id })),
        Err(error @ EmitError::Full { .. }) => {
            tracing::warn!(?error, "an order was not taken");
            Err(Refusal::unavailable("too much is waiting to be written; try again later"))
        }
        Err(error) => {
            tracing::warn!(?error, order = order.order_id, "an order was not written");
            Err(Refusal::unavailable(
                "the order is not known to be written; send it again: a repeated order has no second effect",
            ))
        }
    }
}

/// An order as the original showed it.
#[derive(Serialize)]
struct Row<'a> {
    order_id: i32,
    name: &'a str,
    email: &'a str,
    street: &'a str,
    city: &'a str,
    state: &'a str,
    postal_code: &'a str,
    product_name: &'a str,
    quantity: i32,
    order_date: &'a str,
    priority: &'static str,
}

impl<'a> Row<'a> {
    fn of(order: &'a Order) -> Self {
        let (customer, address) = (&order.customer, &order.customer.address);
        Self {
            order_id: order.order_id,
            name: &customer.name,
            email: &customer.email,
            street: &address.street,
            city: &address.city,
            state: &address.state,
            postal_code: &address.postal_code,
            product_name: &order.product_name,
            quantity: order.quantity,
            order_date: &order.order_date,
            priority: order.priority.name(),
        }
    }
}

async fn one(State(api): State<Arc<Api>>, PathText(id): PathText) -> Result<Response, Refusal> {
    match api.table.get(&id).map_err(unreadable)? {
        Some(accepted) => Ok(json(StatusCode::OK, &Row::of(&accepted.order))),
        None => Err(Refusal::not_found("unknown_order", "no order of this id was routed")),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Which {
    city: Option<String>,
    priority: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(State(api): State<Arc<Api>>, which: Result<Query<Which>, QueryRejection>) -> Result<Response, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, "bad_query", message);
    let Query(which) = which.map_err(|e| bad(e.body_text()))?;
    let limit = which.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(bad(format!("limit must be from 1 to {PAGE}")));
    }
    let named = |name: &String| Priority::named(name).ok_or_else(|| bad("priority must be high, medium or low".into()));
    let priority = which.priority.as_ref().map(named).transpose()?;
    let page = {
        let (table, city, after) = (api.table.clone(), which.city.clone(), which.after.clone());
        // It reads a store, which may be on a disk.
        tokio::task::spawn_blocking(move || page(&table, city.as_deref(), priority, after.as_deref(), limit)).await
    };
    let page = page.map_err(|_| Refusal::unavailable("the orders can't be read at the moment"))?;
    let (orders, next) = page.map_err(unreadable)?;
    let mut response = json(StatusCode::OK, &orders.iter().map(Row::of).collect::<Vec<_>>());
    if let Some(next) = next {
        add_link(response.headers_mut(), &which, &next, limit);
    }
    Ok(response)
}

type Page = (Vec<Order>, Option<String>);

/// Some orders, and the key after which the next page begins, if there is one.
fn page(
    table: &View<Accepted>,
    city: Option<&str>,
    priority: Option<Priority>,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, ViewError> {
    let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_owned()));
    let mut orders = Vec::new();
    for (seen, row) in table.range((from, Bound::Unbounded)).enumerate() {
        let row = row?;
        let key = row.key_text().into_owned();
        let order = row.value.order;
        if city.is_none_or(|c| c == order.city()) && priority.is_none_or(|p| p == order.priority) {
            orders.push(order);
        }
        if orders.len() == limit || seen + 1 == LOOKED_AT {
            return Ok((orders, Some(key)));
        }
    }
    Ok((orders, None))
}

fn add_link(headers: &mut HeaderMap, which: &Which, next: &str, limit: usize) {
    let mut link = format!("</orders?limit={limit}");
    let fields = [("city", which.city.as_deref()), ("priority", which.priority.as_deref()), ("after", Some(next))];
    for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        _ = write!(link, "&{name}=");
        for byte in value.bytes() {
            _ = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => write!(link, "{}", char::from(byte)),
                _ => write!(link, "%{byte:02X}"),
            };
        }
    }
    link.push_str(">; rel=\"next\"");
    if let Ok(link) = link.parse() {
        headers.insert(header::LINK, link);
    }
}
