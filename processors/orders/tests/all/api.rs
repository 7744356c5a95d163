//! The API over real connections, on the embedded log: what is taken, refused and shown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orders::api::{Api, routes};
use orders::cities::CityTopics;
use orders::order::OrderJson;
use orders::topics::TopicNames;
use orders::{Cities, Generator, Order, Priority, router};
use serde_json::{Value, json};
use stream_core::codec::Json;
use stream_core::emitter::Emitter;
use stream_core::log::embedded::InMemory;
use stream_core::log::{LogHandle, TopicSpec};
use stream_core::processor::{Handle, Processor};
use stream_core::store::MemoryStores;
use stream_core::view::View;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Against hanging only.
const PATIENCE: Duration = Duration::from_secs(60);

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

/// The API with a router behind it.
struct Server {
    address: SocketAddr,
    log: Arc<InMemory>,
    router: Handle,
}

impl Server {
    async fn start() -> Self {
        let (log, names) = (InMemory::new(), TopicNames::default());
        let handle: LogHandle = Arc::clone(&log) as _;
        handle.create_topics(vec![TopicSpec::new(names.order_topic.as_str()).partitions(2)]).await.unwrap();
        let cities = Cities::open(Arc::clone(&handle), &names, CityTopics::default()).await.unwrap();
        let graph = router::define(&names, cities).build().unwrap();
        let processor = Processor::new(graph, Arc::clone(&handle))
            .stores(Arc::new(MemoryStores::new()))
            .commit_interval(Duration::from_millis(20));
        let router = processor.handle();
        tokio::spawn(processor.run());
        router.running().await.unwrap();
        let orders = Emitter::builder(names.order_topic.as_str(), OrderJson, Arc::clone(&handle));
        let orders = orders.delivery_timeout(Duration::from_millis(300)).open().await.unwrap();
        let table = View::builder(names.table(), Json::new(), handle).stores(Arc::new(MemoryStores::new()));
        let table = table.open().await.unwrap();
        table.wait_caught_up().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, routes(Arc::new(Api { orders, table }))).into_future());
        Self { address, log, router }
    }

    async fn ask(&self, request: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head =
            format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        // Who refuses a body by its length does not read it.
        _ = stream.write_all(body).await;
        let mut bytes = Vec::new();
        _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|_| body.into());
        Answer { status, head: head.to_owned(), body }
    }

    async fn post(&self, order: &Value) -> Answer {
        self.ask("POST /orders", &serde_json::to_vec(order).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), b"").await
    }

    /// What it answers once an order is routed.
    async fn routed(&self, id: i32) -> Answer {
        let routed = async {
            loop {
                let answer = self.get(&format!("/orders/{id}")).await;
                if answer.status != 404 {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, routed).await.unwrap()
    }
}

fn james() -> Value {
    json!({"order_id": 90123, "customer": {"name": "James Clark", "email": "james@gmail.com", "address":
        {"street": "Avenue Street", "city": "Illinois", "state": "Chicago", "postal_code": "768987"}},
        "product_name": "Protein Powder", "quantity": 5, "order_date": "2023-06-09", "priority": "high"})
}

#[tokio::test]
async fn an_order_is_taken_and_shown_once_it_is_routed() {
    let server = Server::start().await;
    assert_eq!(server.get("/").await.status, 200);
    assert_eq!(server.get("/orders").await.body, json!([]));
    let taken = server.post(&james()).await;
    assert_eq!((taken.status, taken.body), (202, json!({"order_id": 90123})));
    let row = json!({"order_id": 90123, "name": "James Clark", "email": "james@gmail.com", "street": "Avenue Street",
        "city": "Illinois", "state": "Chicago", "postal_code": "768987", "product_name": "Protein Powder", "quantity": 5,
        "order_date": "2023-06-09", "priority": "high"});
    assert_eq!(server.routed(90123).await.body, row);
    assert_eq!(server.get("/orders").await.body, json!([row]));
    server.router.stop();
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_a_code_and_the_field() {
    let server = Server::start().await;
    let mut bad = james();
    bad["customer"]["address"]["city"] = "x".repeat(10_000).into();
    let mut nul = james();
    nul["product_name"] = "a\0b".into();
    let cases: [(&str, Vec<u8>, u16, &str, Option<&str>); 10] = [
        ("POST /orders", serde_json::to_vec(&nul).unwrap(), 422, "invalid", Some("product_name")),
        ("GET /orders/%ff", Vec::new(), 400, "bad_path", None),
        ("DELETE /orders/1", Vec::new(), 405, "method_not_allowed", None),
        ("POST /orders", serde_json::to_vec(&bad).unwrap(), 422, "invalid", Some("customer.address.city")),
        ("POST /orders", b"{}".into(), 422, "invalid", Some("order_id")),
        ("POST /orders", b"__import__('os')".into(), 422, "invalid", Some("body")),
        ("POST /orders", vec![b' '; 70_000], 413, "too_large", None),
        ("PUT /orders", b"{}".into(), 405, "method_not_allowed", None),
        ("GET /order", Vec::new(), 404, "not_found", None),
        ("GET /orders/1%20OR%201=1", Vec::new(), 404, "unknown_order", None),
    ];
    for (request, body, status, code, field) in cases {
        let answer = server.ask(request, &body).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{request}: {}", answer.body);
        assert_eq!(answer.body["field"].as_str(), field, "{request}");
        assert!(answer.body["message"].as_str().is_some_and(|m| !m.is_empty()), "{request}");
    }
    for query in ["limit=0", "limit=1001", "limit=x", "priority=urgent"] {
        let answer = server.get(&format!("/orders?{query}")).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (400, Some("bad_query")), "{query}: {}", answer.body);
    }
    server.router.stop();
}

#[tokio::test]
async fn an_order_can_be_repeated_but_not_changed() {
    let server = Server::start().await;
    assert_eq!(server.post(&james()).await.status, 202);
    server.routed(90123).await;
    assert_eq!(server.post(&james()).await.status, 202);
    let mut changed = james();
    changed["quantity"] = 6.into();
    let answer = server.post(&changed).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (409, Some("other_order")), "{}", answer.body);
    assert_eq!(server.get("/orders/90123").await.body["quantity"], 5);
    server.router.stop();
}

#[tokio::test]
async fn an_order_that_is_not_known_to_be_written_is_503_and_can_be_sent_again() {
    let server = Server::start().await;
    server.log.faults().set_available(false);
    let answer = server.post(&james()).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (503, Some("unavailable")), "{}", answer.body);
    server.log.faults().set_available(true);
    assert_eq!(server.post(&james()).await.status, 202);
    assert_eq!(server.routed(90123).await.status, 200);
    server.router.stop();
}

#[tokio::test]
async fn pages_by_city_and_priority_miss_nothing() {
    let server = Server::start().await;
    let mut generator = Generator::new(5, 0);
    let orders: Vec<Order> =
        std::iter::repeat_with(|| generator.next().0).filter(|o| o.check().is_ok()).take(60).collect();
    for order in &orders {
        assert_eq!(server.post(&serde_json::to_value(order).unwrap()).await.status, 202);
    }
    for order in &orders {
        server.routed(order.order_id).await;
    }
    let cases: [(&str, &dyn Fn(&Order) -> bool); 4] = [
        ("", &|_| true),
        ("&priority=high", &|o| o.priority == Priority::High),
        ("&city=S%C3%A3o%20Paulo", &|o| o.city() == "São Paulo"),
        ("&city=..%2F..%2Fetc%2Fpasswd&priority=low", &|o| {
            o.city() == "../../etc/passwd" && o.priority == Priority::Low
        }),
    ];
    for (filter, matches) in cases {
        let mut expected: Vec<i32> = orders.iter().filter(|o| matches(o)).map(|o| o.order_id).collect();
        let (mut seen, mut path, mut pages) = (Vec::new(), format!("/orders?limit=7{filter}"), 0);
        loop {
            let answer = server.get(&path).await;
            assert_eq!(answer.status, 200, "{path}");
            let page = answer.body.as_array().unwrap();
            assert!(page.len() <= 7);
            seen.extend(page.iter().map(|o| i32::try_from(o["order_id"].as_i64().unwrap()).unwrap()));
            pages += 1;
            let Some(link) = answer.head.lines().find_map(|l| l.strip_prefix("link: <")) else { break };
            path = link.split_once(">; rel=\"next\"").unwrap().0.to_owned();
        }
        assert!(pages > expected.len() / 7, "{filter}");
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "{filter}");
    }
    server.router.stop();
}
