//! Keeps the products that pass a rule, which can be changed while it runs.

use std::process::ExitCode;

use clap::Parser;
use processors_common::{CommonArgs, Exit, Line, Prompt, parse, run, say, topics};
use shop::rule::{Kind, Matcher, Rule};
use shop::rules::Rules;
use shop::topics::{RECOM_FLAGS, TopicNames};
use shop::{Format, filter};
use stream_core::processor::stop_signal;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the products whose name passes a rule in the group's table
///
/// The rule lies in a compacted topic, so that it survives a restart and holds for all instances. It is set by a flag,
/// at the prompt, or by any Kafka client: key "filter", value {"kind": "contains", "text": "lamp"} (or "regex"). A
/// change holds for products that come after it. Without any rule everything passes.
#[derive(Parser, Debug)]
#[command(name = "product-filter", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// Set the rule: the name contains this [default: the rule stays as it is]
    #[arg(long, value_name = "TEXT", conflicts_with = "regex")]
    contains: Option<String>,

    /// Set the rule: the name matches this regular expression
    #[arg(long, value_name = "PATTERN")]
    regex: Option<String>,

    /// Read rules from stdin, a line each, though it is no terminal
    #[arg(long)]
    prompt: bool,

    /// How products are written
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str =
    "At the prompt: lamp (is contained), /la.p/ (a regular expression), an empty line (everything passes);
Ctrl-C or Ctrl-D ends it.

Examples:
  product-filter --brokers localhost:9092 --contains lamp
  product-filter --regex '(?i)lamp$'                the brokers from $KAFKA_BROKERS
  echo lamp | product-filter --prompt               the end of a pipe does not end it";

fn main() -> ExitCode {
    run(filter(parse(&[&["find_topic"], RECOM_FLAGS])))
}

async fn filter(cli: Cli) -> Result<(), Exit> {
    let asked = match (&cli.contains, &cli.regex) {
        (Some(text), _) => Some(Rule::new(Kind::Contains, text)),
        (None, Some(pattern)) => Some(Rule::new(Kind::Regex, pattern)),
        (None, None) => None,
    };
    asked.as_ref().map(Matcher::new).transpose().map_err(Exit::usage)?;
    let log = cli.common.connect("product-filter")?;
    let graph = filter::define(&cli.names, cli.format.codec(&cli.common)?).build()?;
    // Nobody else makes it, and the group waits for it.
    topics::create_missing(&log, vec![cli.names.rules(&cli.common)]).await?;
    let rules = Rules::open(&cli.names.rules_topic, &log).await?;
    if let Some(rule) = asked {
        rules.set(rule).await?;
    }
    let prompt = (cli.prompt || Prompt::is_terminal()).then(|| Prompt::open("Filter product name contain: "));
    let processor = cli.common.processor(graph, log);
    let stop = async move {
        tokio::select! {
            biased;
            () = stop_signal() => {}
            () = read_rules(prompt, rules) => {}
        }
    };
    processor.run_until(stop).await?;
    Ok(())
}

/// Sets what is typed, until it is ended by somebody at a terminal.
async fn read_rules(prompt: Option<Prompt>, rules: Rules) {
    let Some(mut prompt) = prompt else { return std::future::pending().await };
    loop {
        match prompt.next().await {
            Line::Text(line) => match rules.set(Rule::typed(&line)).await {
                Ok(rule) => say(format_args!("from now on: {rule}")),
                Err(error) => say(format_args!("{error}; the old rule stays")),
            },
            Line::Interrupt => return,
            Line::End if prompt.interactive() => return,
            Line::End => return std::future::pending().await,
        }
    }
}
