//! Made-up orders, some of them sent twice, some from cities with names that are none. The same seed makes the same ones.

use crate::order::{Address, Customer, Order, Priority};

const CITIES: [&str; 12] = [
    "Illinois",
    "Lisbon",
    "New York",
    "Oslo",
    "Porto",
    "St. John's",
    "São Paulo",
    "Turin",
    "東京",
    "../../etc/passwd",
    "product_orders",
    "",
];
const PEOPLE: [&str; 8] = ["Ann", "Björn", "Chidi", "Dora", "Emeka", "Farah", "Goran", "Hana"];
const THINGS: [&str; 6] = ["Protein Powder", "Desk Lamp", "Bicycle Bell", "Tea Kettle", "Wool Socks", "Paper Kite"];

/// Makes orders with ids from 1 on.
#[derive(Clone, Debug)]
pub struct Generator {
    random: u64,
    made: i32,
    repeats: u64,
    /// What can be repeated.
    recent: Vec<Order>,
}

/// So many of the last ones are remembered.
const RECENT: usize = 200;

impl Generator {
    /// Of 100 orders, `repeats` are sent again.
    pub fn new(seed: u64, repeats: u8) -> Self {
        // Any state but zero will do.
        Self { random: seed | 1 << 63, made: 0, repeats: repeats.into(), recent: Vec::new() }
    }

    /// The next order, and whether it is a repeat.
    pub fn next(&mut self) -> (Order, bool) {
        if self.below(100) < self.repeats {
            let at = self.index(self.recent.len());
            if let Some(again) = self.recent.get(at) {
                return (again.clone(), true);
            }
        }
        self.made += 1;
        let order = self.order(self.made);
        if self.recent.len() < RECENT {
            self.recent.push(order.clone());
        } else {
            let at = self.index(RECENT);
            if let Some(place) = self.recent.get_mut(at) {
                place.clone_from(&order);
            }
        }
        (order, false)
    }

    fn order(&mut self, order_id: i32) -> Order {
        let name = self.of(&PEOPLE);
        let city = match self.below(100) {
            0 => "Llanfairpwllgwyngyll ".repeat(500),
            _ => self.of(&CITIES).to_owned(),
        };
        let priority = match self.below(10) {
            0..2 => Priority::High,
            2..6 => Priority::Medium,
            _ => Priority::Low,
        };
        let address = Address {
            street: format!("Long Street {}", self.below(99) + 1),
            city,
            state: "none".into(),
            postal_code: format!("{:05}", self.below(100_000)),
        };
        let email = format!("customer{order_id}@example.org");
        Order {
            order_id,
            customer: Customer { name: name.to_owned(), email, address },
            product_name: self.of(&THINGS).to_owned(),
            quantity: i32::try_from(self.below(9)).unwrap_or_default() + 1,
            order_date: format!("2025-{:02}-{:02}", self.below(12) + 1, self.below(28) + 1),
            priority,
        }
    }

    /// xorshift64*: good enough to make things up.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound.max(1)
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    fn of(&mut self, names: &[&'static str]) -> &'static str {
        let at = self.index(names.len());
        names.get(at).copied().unwrap_or_default()
    }
}
