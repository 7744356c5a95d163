//! The database's table in Postgres.
//!
//! One connection, made when it is needed and given up at the first sign of trouble. A batch is one statement, so all of it
//! is committed or nothing. Values go as parameters, never into the statement's text.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use processors_common::postgres::{Database, describe};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::{Client, Config};

use crate::order::Order;
use crate::sink::{Rows, RowsError};

/// The original's table, but for the length of texts: what a customer may write is limited where it is taken, and what was
/// taken must not be refused here.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS orders (
    order_id SERIAL PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, street TEXT NOT NULL, city TEXT NOT NULL,
    state TEXT NOT NULL, postal_code TEXT NOT NULL, product_name TEXT NOT NULL, quantity INTEGER NOT NULL,
    order_date DATE NOT NULL, priority TEXT NOT NULL)";

const UPSERT: &str = "INSERT INTO orders
    (order_id, name, email, street, city, state, postal_code, product_name, quantity, order_date, priority)
    SELECT * FROM UNNEST($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::int4[], $10::text[]::date[], $11::text[])
    ON CONFLICT (order_id) DO UPDATE SET (name, email, street, city, state, postal_code, product_name, quantity, order_date,
        priority) = ROW(EXCLUDED.name, EXCLUDED.email, EXCLUDED.street, EXCLUDED.city, EXCLUDED.state, EXCLUDED.postal_code,
        EXCLUDED.product_name, EXCLUDED.quantity, EXCLUDED.order_date, EXCLUDED.priority)";

/// A Postgres.
#[derive(Debug)]
pub struct Postgres {
    database: Database,
    patience: Duration,
    client: Mutex<Option<Client>>,
}

impl Postgres {
    /// Describes it; nothing is connected yet. To be called on the runtime that the connection shall live on. An answer
    /// that takes longer than `patience` counts as none.
    pub fn new(config: Config, patience: Duration) -> Self {
        Self { database: Database::new(config, TABLE), patience, client: Mutex::default() }
    }

    async fn write(&self, client: &mut Option<Client>, orders: &[&Order]) -> Result<(), tokio_postgres::Error> {
        let client = match client {
            Some(client) => client,
            None => client.insert(self.database.connect().await?),
        };
        let texts = |of: fn(&Order) -> &str| orders.iter().map(|o| of(o)).collect::<Vec<_>>();
        let ids: Vec<i32> = orders.iter().map(|o| o.order_id).collect();
        let quantities: Vec<i32> = orders.iter().map(|o| o.quantity).collect();
        let columns: [Vec<&str>; 9] = [
            texts(|o| &o.customer.name),
            texts(|o| &o.customer.email),
            texts(|o| &o.customer.address.street),
            texts(|o| &o.customer.address.city),
            texts(|o| &o.customer.address.state),
            texts(|o| &o.customer.address.postal_code),
            texts(|o| &o.product_name),
            texts(|o| &o.order_date),
            texts(|o| o.priority.name()),
        ];
        let [name, email, street, city, state, postal_code, product, date, priority] = &columns;
        let statement = client.prepare(UPSERT).await?;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 11] =
            [&ids, name, email, street, city, state, postal_code, product, &quantities, date, priority];
        client.execute(&statement, &values).await.map(drop)
    }
}

impl Rows for Postgres {
    fn upsert<'a>(&'a self, orders: &'a [&'a Order]) -> BoxFuture<'a, Result<(), RowsError>> {
        async move {
            let mut client = self.client.lock().await;
            let done = timeout(self.patience, self.write(&mut client, orders)).await;
            let error = match done {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => {
                    *client = None;
                    return Err(RowsError::Later(format!("Postgres has not answered for {:?}", self.patience)));
                }
            };
            // 22 and 23: the data does not fit the table. Anything else, an operator can put right.
            let refused = error.code().is_some_and(|c| c.code().starts_with("22") || c.code().starts_with("23"));
            if refused {
                return Err(RowsError::Refused(describe(&error)));
            }
            *client = None;
            Err(RowsError::Later(describe(&error)))
        }
        .boxed()
    }
}
