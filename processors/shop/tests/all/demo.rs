//! The demo as a process, with nobody to type anything.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use processors_common::testing::{ask, counts, send};
use serde_json::Value;

fn start(for_: &str) -> Child {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.env("DEMO_FOR", for_).env("DEMO_HTTP", "127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped());
    demo.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn it_ends_by_itself_and_says_what_happened() {
    let done = start("4s").wait_with_output().unwrap();
    let output = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{output}");
    let counts = counts(&output);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["passed", "products", "recommendations", "searches"]);
    // Everything passes at first, and then, as the demo types for itself, lamps only.
    assert!(counts["passed"] > 0 && counts["passed"] < counts["products"], "{output}");
    assert!(output.contains("the name contains \"lamp\""), "{output}");
    // Users search for what is there: every search finds that.
    assert!(counts["searches"] > 0 && counts["recommendations"] >= counts["searches"], "{output}");
}

#[test]
fn nonsense_for_a_time_is_refused() {
    assert_eq!(start("soon").wait().unwrap().code(), Some(2));
}

#[test]
fn a_search_at_the_page_is_answered_live() {
    let mut demo = start("20s");
    let mut said = BufReader::new(demo.stdout.take().unwrap()).lines();
    let at = said.by_ref().map(Result::unwrap).find_map(|line| {
        let (_, page) = line.split_once("http://")?;
        Some(page.trim_end_matches('/').to_owned())
    });
    let at = at.expect("it says where the page is");
    let (status, page) = ask(&at, "GET /", "", "");
    assert!(status == 200 && page.contains("EventSource(\"/events\")"), "{status}");
    let mut nothing = ask(&at, "GET /recommendations/zoe", "", "").0;
    while nothing == 503 {
        // The demo has only just begun.
        nothing = ask(&at, "GET /recommendations/zoe", "", "").0;
    }
    assert_eq!(nothing, 404, "nothing yet");

    // Searches for what is seen to pass, and waits for what comes of it; the stream ends with the demo, if nothing does.
    let mut searched = None;
    let (mut event, mut found) = (String::new(), None);
    for line in BufReader::new(send(&at, "GET /events", "", "")).lines().map_while(Result::ok) {
        if let Some(name) = line.strip_prefix("event: ") {
            event = name.to_owned();
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let data: Value = serde_json::from_str(data).unwrap();
        match event.as_str() {
            "product" if searched.is_none() && data["passed"] == true => {
                let name = data["name"].as_str().unwrap();
                assert_eq!(ask(&at, "POST /search/zoe", "", name).0, 202);
                searched = Some(name.to_owned());
            }
            "recommendation" if data["user"] == "zoe" => {
                found = Some(data);
                break;
            }
            _ => {}
        }
    }
    let found = found.expect("a recommendation comes");
    assert_eq!(found["product"]["name"].as_str(), searched.as_deref());

    // The table has it, too, a moment sooner or later.
    let mut of_zoe = ask(&at, "GET /recommendations/zoe", "", "");
    while of_zoe.0 == 404 {
        of_zoe = ask(&at, "GET /recommendations/zoe", "", "");
    }
    let of_zoe: Value = serde_json::from_str(&of_zoe.1).unwrap();
    assert_eq!(of_zoe["user_id"], "zoe");
    assert_eq!(of_zoe["recommendations"][0]["find"].as_str(), searched.as_deref(), "{of_zoe}");
    let (status, row) = ask(&at, "GET /tables/personal_recommendations-users-table/zoe", "", "");
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!((status, &row["value"]["recommendations"]), (200, &of_zoe["recommendations"]));

    // A rule, good and bad.
    assert_eq!(ask(&at, "POST /filter", "", "/wall(/").0, 422);
    let (status, rule) = ask(&at, "POST /filter", "", "wall");
    assert!(status == 200 && rule.contains("the name contains \"wall\""), "{rule}");
    assert_eq!(ask(&at, "POST /search/zoe", "", "  ").0, 422);
    demo.kill().unwrap();
    demo.wait().unwrap();
}
