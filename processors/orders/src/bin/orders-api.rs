//! Takes orders over HTTP, and shows those that were routed.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use orders::api::{Api, routes};
use orders::order::OrderJson;
use orders::topics::TopicNames;
use processors_common::http::{Server, listen};
use processors_common::{CommonArgs, Exit, REGISTRY_FLAGS, parse, run, say};
use stream_core::codec::Json;
use stream_core::emitter::Emitter;
use stream_core::processor::stop_signal;
use stream_core::view::View;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes orders over HTTP, and shows those that were routed
///
/// POST /orders answers 202 once Kafka has the order, 422 with the field that is wrong, 503 when the order is not known to
/// be written: sent again it has no second effect. GET /orders shows the router's table, by page, city and priority,
/// GET /orders/{id} one order.
#[derive(Parser, Debug)]
#[command(name = "orders-api", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// Where to listen; port 0 is a free one
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "ORDERS_HTTP",
        hide_env_values = true,
        default_value = "127.0.0.1:8080"
    )]
    http: SocketAddr,

    /// How long Kafka may take to acknowledge an order
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    patience: Duration,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  orders-api --brokers localhost:9092
  curl -i localhost:8080/orders -d @order.json
  curl -i 'localhost:8080/orders?priority=high&limit=10'";

fn main() -> ExitCode {
    let unused = ["guarantee", "standbys", "commit_interval", "instance_id"];
    run(serve(parse(&[REGISTRY_FLAGS, &unused, &["city_prefix", "email_topic", "mailer_group", "sink_group"]])))
}

async fn serve(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("orders-api")?;
    cli.names.prepare(&log, &cli.common).await?;
    let orders = Emitter::builder(cli.names.order_topic.as_str(), OrderJson, Arc::clone(&log));
    let orders = orders.delivery_timeout(cli.patience).open().await?;
    let table = View::builder(cli.names.table(), Json::new(), log);
    let table = table.state_dir(&cli.common.processing.state_dir).open().await?;
    let api = Arc::new(Api { orders: orders.clone(), table: table.clone() });
    let listener = listen(cli.http, "--http").await?;
    say(format_args!("orders-api: http://{}/", listener.local_addr()?));
    let server = Server::start(listener, routes(api));
    stop_signal().await;
    server.end().await?;
    orders.close().await?;
    table.close().await;
    Ok(())
}
