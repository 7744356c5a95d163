//! What an order is, how it is read, and what is wrong with one.
//!
//! Field names and their order are the original system's; they must not change. Every way in goes through
//! [`Order::parse`], so that whatever is behind the router fits the database's types. What an order says is data: it must
//! never be run, nor become a name of anything without [`city::slug`](crate::city::slug).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stream_core::codec::{Codec, CodecError};

/// An order, keyed by its `order_id` in decimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Order {
    /// At least 1.
    pub order_id: i32,
    pub customer: Customer,
    pub product_name: String,
    pub quantity: i32,
    /// `YYYY-MM-DD`, a day that exists.
    pub order_date: String,
    pub priority: Priority,
}

/// Who ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Customer {
    pub name: String,
    pub email: String,
    pub address: Address,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Address {
    pub street: String,
    pub city: String,
    pub state: String,
    pub postal_code: String,
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The customer gets a mail.
    High,
    /// As usual.
    Medium,
    /// Whenever.
    Low,
}

impl Priority {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::High, Self::Medium, Self::Low];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// What is wrong with an order, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field, as `customer.address.city`; `body` if it is all of it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    fn new(field: &'static str, problem: impl fmt::Display) -> Self {
        Self { field, problem: problem.to_string() }
    }
}

/// Characters that the original's columns hold.
const TEXT: usize = 255;
const POSTAL_CODE: usize = 10;

impl Order {
    /// Reads an order. Says which field is missing, or has a value that an order can't have. Further fields are left out.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, Invalid> {
        let value: Value =
            serde_json::from_slice(json).map_err(|e| Invalid::new("body", format_args!("is not JSON: {e}")))?;
        let order = Fields::of(&value, "body")?;
        let order_id = order.integer("order_id", "order_id")?;
        if order_id < 1 {
            return Err(Invalid::new("order_id", "must be at least 1"));
        }
        let customer = Fields::of(order.get("customer", "customer")?, "customer")?;
        let address = Fields::of(customer.get("address", "customer.address")?, "customer.address")?;
        let order_date = order.text("order_date", "order_date")?;
        if !is_date(&order_date) {
            return Err(Invalid::new("order_date", "must be a day, as YYYY-MM-DD"));
        }
        let priority = Priority::named(&order.text("priority", "priority")?)
            .ok_or_else(|| Invalid::new("priority", "must be high, medium or low"))?;
        Ok(Self {
            order_id,
            customer: Customer {
                name: customer.text("name", "customer.name")?,
                email: customer.text("email", "customer.email")?,
                address: Address {
                    street: address.text("street", "customer.address.street")?,
                    city: address.text("city", "customer.address.city")?,
                    state: address.text("state", "customer.address.state")?,
                    postal_code: address.text("postal_code", "customer.address.postal_code")?,
                },
            },
            product_name: order.text("product_name", "product_name")?,
            quantity: order.integer("quantity", "quantity")?,
            order_date,
            priority,
        })
    }

    /// What an order must be to be taken from a customer, beyond being one.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), Invalid> {
        let (customer, address) = (&self.customer, &self.customer.address);
        let texts = [
            ("customer.name", &customer.name, 1, TEXT),
            ("customer.email", &customer.email, 3, TEXT),
            ("customer.address.street", &address.street, 0, TEXT),
            ("customer.address.city", &address.city, 0, TEXT),
            ("customer.address.state", &address.state, 0, TEXT),
            ("customer.address.postal_code", &address.postal_code, 0, POSTAL_CODE),
            ("product_name", &self.product_name, 1, TEXT),
        ];
        for (field, text, least, most) in texts {
            let length = text.chars().count();
            if length < least {
                return Err(Invalid::new(field, format_args!("must have at least {least} characters")));
            }
            if length > most {
                return Err(Invalid::new(field, format_args!("has {length} characters, at most {most} are taken")));
            }
        }
        let parts = customer.email.split_once('@');
        if !parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !customer.email.contains(' ')) {
            return Err(Invalid::new("customer.email", "must be an address, as name@example.org"));
        }
        if self.quantity < 1 {
            return Err(Invalid::new("quantity", "must be at least 1"));
        }
        Ok(())
    }

    /// The key of its records.
    pub fn key(&self) -> String {
        self.order_id.to_string()
    }

    /// Its city.
    pub fn city(&self) -> &str {
        &self.customer.address.city
    }
}

/// The fields of an object, each asked for by its name and by its path, for messages.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of(value: &'a Value, path: &'static str) -> Result<Self, Invalid> {
        value.as_object().map(Self).ok_or_else(|| Invalid::new(path, "must be an object"))
    }

    fn get(&self, name: &str, path: &'static str) -> Result<&'a Value, Invalid> {
        self.0.get(name).ok_or_else(|| Invalid::new(path, "is missing"))
    }

    fn text(&self, name: &str, path: &'static str) -> Result<String, Invalid> {
        let text = self.get(name, path)?.as_str().ok_or_else(|| Invalid::new(path, "must be text"))?;
        // Postgres takes no NUL, and none of them means anything in an order.
        if text.chars().any(char::is_control) {
            return Err(Invalid::new(path, "must not have control characters"));
        }
        Ok(text.to_owned())
    }

    fn integer(&self, name: &str, path: &'static str) -> Result<i32, Invalid> {
        let value = self.get(name, path)?.as_i64().and_then(|n| i32::try_from(n).ok());
        value.ok_or_else(|| Invalid::new(path, format_args!("must be a whole number of at most {}", i32::MAX)))
    }
}

/// Whether it is a day that exists, as `YYYY-MM-DD`, from the year 1 on.
fn is_date(text: &str) -> bool {
    let digits = |part: &str, len: usize| {
        (part.len() == len && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u32>().ok()).flatten()
    };
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => return false,
    };
    year >= 1 && (1..=days).contains(&day)
}

/// JSON that is checked by [`Order::parse`], so that the reason for a dead letter names the field.
#[derive(Clone, Copy, Debug)]
pub struct OrderJson;

impl Codec<Order> for OrderJson {
    fn encode(&self, order: &Order, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, order).map_err(|e| CodecError::invalid(e.to_string()))
    }

    fn decode(&self, bytes: &[u8]) -> Result<Order, CodecError> {
        Order::parse(bytes).map_err(|e| CodecError::invalid(e.to_string()))
    }

    fn name(&self) -> &str {
        "json"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of the original's description.
    const JAMES: &str = r#"{"order_id": 90123, "customer": {"name": "James Clark", "email": "james@gmail.com", "address": {"street": "Avenue Street",
 "city": "Illinois", "state": "Chicago", "postal_code": "768987"}}, "product_name": "Protein Powder", "quantity": 5,
 "order_date": "2023-06-09", "priority": "high"}"#;

    fn with(path: &str, value: Value) -> Vec<u8> {
        let mut order: Value = serde_json::from_str(JAMES).unwrap();
        *order.pointer_mut(path).unwrap() = value;
        serde_json::to_vec(&order).unwrap()
    }

    #[test]
    fn the_originals_order_is_one_and_stays_as_it_is() {
        let order = Order::parse(JAMES.as_bytes()).unwrap();
        order.check().unwrap();
        let mut written = Vec::new();
        OrderJson.encode(&order, &mut written).unwrap();
        let before: Value = serde_json::from_str(JAMES).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), before);
        assert!(String::from_utf8(written).unwrap().starts_with(r#"{"order_id":90123,"customer":{"name":"#));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let cases: [(&str, Value, &str); 12] = [
            ("/order_id", "1".into(), "order_id: must be a whole number"),
            ("/order_id", 0.into(), "order_id: must be at least 1"),
            ("/order_id", 3_000_000_000_i64.into(), "order_id: must be a whole number of at most 2147483647"),
            ("/customer", "James".into(), "customer: must be an object"),
            ("/customer/address/city", 5.into(), "customer.address.city: must be text"),
            ("/quantity", 1.5.into(), "quantity: must be a whole number"),
            ("/order_date", "2023-02-29".into(), "order_date: must be a day"),
            ("/priority", "urgent".into(), "priority: must be high, medium or low"),
            ("/customer/email", "james@x\r\nBcc: all@x".into(), "customer.email: must not have control"),
            ("/product_name", "a\0b".into(), "product_name: must not have control"),
            ("/customer/name", "James\u{85}Clark".into(), "customer.name: must not have control"),
            ("/customer/address", Value::Null, "customer.address: must be an object"),
        ];
        for (path, value, expected) in cases {
            let problem = Order::parse(&with(path, value)).unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{problem}");
        }
        assert_eq!(Order::parse(b"{}").unwrap_err().to_string(), "order_id: is missing");
        assert_eq!(Order::parse(b"__import__('os')").unwrap_err().field, "body");
    }

    #[test]
    fn customers_are_held_to_what_makes_sense() {
        let cases: [(&str, Value, &str); 5] = [
            ("/customer/name", "".into(), "customer.name: must have at least 1"),
            ("/customer/email", "james".into(), "customer.email: must be an address"),
            ("/customer/address/city", "x".repeat(10_000).into(), "customer.address.city: has 10000 characters"),
            ("/customer/address/postal_code", "12345678901".into(), "customer.address.postal_code: has 11"),
            ("/quantity", 0.into(), "quantity: must be at least 1"),
        ];
        for (path, value, expected) in cases {
            let problem = Order::parse(&with(path, value)).unwrap().check().unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{problem}");
        }
        Order::parse(&with("/customer/address/city", "São Paulo/東京 ".into())).unwrap().check().unwrap();
    }

    #[test]
    fn days_that_exist() {
        for day in ["2023-06-09", "2024-02-29", "2000-02-29", "9999-12-31", "0001-01-01"] {
            assert!(is_date(day), "{day}");
        }
        for day in [
            "2023-6-9",
            "1900-02-29",
            "2023-13-01",
            "2023-00-10",
            "2023-04-31",
            "0000-01-01",
            "+023-01-01",
            "",
            "2023-01-01-",
        ] {
            assert!(!is_date(day), "{day}");
        }
    }
}
