//! The sink's group, on the embedded log, while its real Postgres is restarted and killed: a server of this test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use orders::postgres::Postgres;
use orders::sink;
use orders::topics::{SINK, TopicNames};
use orders::{Accepted, Generator};
use stream_core::codec::Json;
use stream_core::emitter::Emitter;
use stream_core::log::embedded::InMemory;
use stream_core::log::{LogHandle, TopicSpec};
use stream_core::processor::Processor;
use tokio_postgres::{Config, NoTls};

const TABLE: &str = "order-router-table";
const ORDERS: i32 = 2000;

/// A server that ends with the test.
struct Server {
    state: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start() -> (Self, Config) {
        let state = tempfile::tempdir().unwrap();
        // It may run as another user.
        std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { state, port };
        let url = server.run("up");
        (server, url.trim().strip_prefix("DATABASE_DSN=").unwrap().parse().unwrap())
    }

    fn run(&self, what: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/postgres.sh");
        let mut command = Command::new(script);
        command.arg(what).env("STREAM_STATE", self.state.path()).env("POSTGRES_PORT", self.port.to_string());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "postgres.sh {what}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run("down");
    }
}

async fn rows(config: &Config) -> Result<Vec<i32>, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let rows = client.query("SELECT order_id FROM orders ORDER BY order_id", &[]).await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Postgres: make test starts one where its binaries are"]
async fn real_postgres_restarts_and_dies_under_the_sink() {
    let (server, config) = Server::start();
    let log: LogHandle = InMemory::new();
    log.create_topics(vec![TopicSpec::new(TABLE).partitions(2)]).await.unwrap();
    let database = Arc::new(Postgres::new(config.clone(), Duration::from_secs(30)));
    let graph = sink::define(&TopicNames::default(), database, 10).build().unwrap();
    let state = tempfile::tempdir().unwrap();
    let processor = Processor::new(graph, Arc::clone(&log)).state_dir(state.path());
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());

    let emitter = Emitter::new(TABLE, Json::<Accepted>::new(), Arc::clone(&log)).await.unwrap();
    let mut generator = Generator::new(3, 0);
    for n in 1..=ORDERS {
        let order = generator.next().0;
        let key = order.key();
        emitter.emit_acknowledged(&key, &Accepted { order, partition: 0, offset: 0 }).await.unwrap();
        if n % 500 == 250 {
            // Its process is waited for here, so that the sink meets with a server that is gone.
            tokio::task::block_in_place(|| server.run(if n % 1000 == 250 { "restart" } else { "kill" }));
        }
    }
    let all: Vec<i32> = (1..=ORDERS).collect();
    let written = async {
        handle.caught_up().await.unwrap();
        while rows(&config).await.ok().as_ref() != Some(&all) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), written).await.expect("every order has its row");
    handle.stop();
    running.await.unwrap().unwrap();
    let committed =
        log.group_offsets(SINK.into(), (0..2).map(|p| stream_core::log::TopicPartition::new(TABLE, p)).collect());
    let committed: i64 = committed.await.unwrap().into_iter().flatten().sum();
    assert_eq!(committed, i64::from(ORDERS));
}
