//! The group that fills the history, on the embedded log.

use chat::message::MessageJson;
use chat::time_id::TimeIds;
use chat::topics::{HISTORIAN, HISTORY, MESSAGES, TopicNames};
use chat::{Message, history};
use stream_core::codec::Bytes;
use stream_core::testing::Tester;
use uuid::Uuid;

type Done = Result<(), Box<dyn std::error::Error>>;

const CHAT: &str = "2f1e0c8e-0000-4000-8000-00000000000c";

fn message(chat: &str, id: &str, time: Uuid) -> Message {
    let time_iso = "2023-10-01T10:00:00.000001".into();
    let [message_id, from_user, to_user, body, chat_id] = [id, "ann", "ben", id, chat].map(str::to_owned);
    Message { message_id, from_user, to_user, body, chat_id, time: time.to_string(), time_iso }
}

#[test]
fn a_message_has_one_place_however_often_it_is_written() -> Done {
    let tester = Tester::with_partitions(3);
    tester.add(history::define(&TopicNames::default()).build()?)?;
    let (ids, input) = (TimeIds::new(), tester.input(MESSAGES, MessageJson));
    let sent: Vec<Message> = (0..50).map(|n| message(CHAT, &n.to_string(), ids.now())).collect();
    for message in sent.iter().chain(&sent[10..20]) {
        input.push(CHAT, message.clone())?;
    }
    tester.crash(HISTORIAN)?;
    tester.restart(HISTORIAN)?;
    tester.drain()?;
    let mut places: Vec<(String, Message)> =
        tester.output(HISTORY, MessageJson).read()?.into_iter().map(|r| (r.key_text(), r.value.unwrap())).collect();
    places.sort_by(|a, b| a.0.cmp(&b.0));
    places.dedup();
    assert_eq!(places.into_iter().map(|(_, m)| m).collect::<Vec<_>>(), sent, "in the order of their times");
    Ok(())
}

#[test]
fn what_has_no_place_is_put_aside_and_never_in_another_chat() -> Done {
    let tester = Tester::new();
    tester.add(history::define(&TopicNames::default()).build()?)?;
    let (ids, input) = (TimeIds::new(), tester.input(MESSAGES, MessageJson));
    // As text, its place would be within the other's chat.
    input.push("1", message(&format!("{CHAT}/0"), "1", ids.now()))?;
    input.push("2", message(CHAT, "2", Uuid::new_v4()))?;
    input.push_bytes("3", Some(b"no JSON"), None, None)?;
    // The same chat, written in another way.
    input.push("4", message(&CHAT.to_uppercase(), "4", ids.now()))?;
    tester.drain()?;
    let dead = tester.output("chat_history-dlq", Bytes).read()?;
    assert_eq!(dead.iter().map(|r| r.key_text()).collect::<Vec<_>>(), ["1", "2", "3"]);
    let kept = tester.output(HISTORY, MessageJson).read()?;
    assert_eq!(kept.len(), 1);
    assert!(kept[0].key_text().starts_with(&format!("{CHAT}/")), "{}", kept[0].key_text());
    Ok(())
}
