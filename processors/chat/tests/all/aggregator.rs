//! The aggregator on the embedded log: which messages are a group, when it closes, and what a crash does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat::message::{LARGEST, MessageJson};
use chat::open::{Chat, Limits};
use chat::topics::{AGGREGATOR, GROUPED, MESSAGES, TopicNames};
use chat::{Message, MessageGroup, aggregator};
use stream_core::codec::{Bytes, Json};
use stream_core::log::LogError;
use stream_core::processor::Guarantee;
use stream_core::testing::{TestOutput, Tester};

type Done = Result<(), Box<dyn std::error::Error>>;

const GUARANTEES: [Guarantee; 2] = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];
const CHAT: &str = "2f1e0c8e-0000-4000-8000-00000000000c";

fn started(guarantee: Guarantee) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::with_partitions(3);
    let graph = aggregator::define(&TopicNames::default(), Limits::default(), guarantee).build()?;
    tester.add_with(graph, move |p| p.guarantee(guarantee))?;
    Ok(tester)
}

fn with_both(test: impl Fn(Guarantee, Tester, TestOutput<MessageGroup>) -> Done) -> Done {
    for guarantee in GUARANTEES {
        let tester = started(guarantee)?;
        let groups = tester.output(GROUPED, Json::<MessageGroup>::new());
        test(guarantee, tester, groups)?;
    }
    Ok(())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn message(chat: &str, user: &str, id: &str) -> Message {
    let time_iso = "2023-10-01T10:00:00.000001".into();
    let [message_id, from_user, to_user, body, chat_id, time] =
        [id, user, "someone", id, chat, "89d9c4b8-0000-11ee-8000-0242ac120002"].map(str::to_owned);
    Message { message_id, from_user, to_user, body, chat_id, time, time_iso }
}

fn say(tester: &Tester, chat: &str, user: &str, ids: &str) -> Done {
    for id in ids.split(' ') {
        tester.input(MESSAGES, MessageJson).send(chat, message(chat, user, id))?;
    }
    Ok(())
}

/// Who wrote it, and the ids of the messages.
fn shown(group: &MessageGroup) -> (String, String) {
    let ids: Vec<&str> = group.list_of_messages.iter().map(|m| &*m.message_id).collect();
    (group.from_user.clone(), ids.join(" "))
}

fn read(groups: &TestOutput<MessageGroup>) -> Vec<(String, String)> {
    groups.read().unwrap().iter().map(|r| shown(r.value.as_ref().unwrap())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(user, ids)| ((*user).to_owned(), (*ids).to_owned())).collect()
}

fn chats_held(tester: &Tester) -> usize {
    tester.table(AGGREGATOR, Json::<Chat>::new()).all().unwrap().len()
}

#[test]
fn the_reference_case_of_three_users_three_groups_and_the_latest_time() -> Done {
    with_both(|_, tester, groups| {
        let input = tester.input(MESSAGES, MessageJson);
        let days = |user: &str, days: &[&str]| -> Done {
            for (n, day) in days.iter().enumerate() {
                let time_iso = format!("2023-{day}T01:24:10.473126");
                input.send(CHAT, Message { time_iso, ..message(CHAT, user, &format!("{user}-{n}")) })?;
            }
            Ok(())
        };
        days("1", &["10-01", "10-01", "10-01"])?;
        days("2", &["10-01", "10-01"])?;
        days("3", &["10-01", "10-22", "10-20", "10-01", "10-01"])?;
        tester.advance(ms(3000))?;
        let all = groups.read()?;
        assert!(all.iter().all(|r| r.key_text() == CHAT));
        let all: Vec<MessageGroup> = all.into_iter().map(|r| r.value.unwrap()).collect();
        assert_eq!(
            all.iter().map(shown).collect::<Vec<_>>(),
            pairs(&[("1", "1-0 1-1 1-2"), ("2", "2-0 2-1"), ("3", "3-0 3-1 3-2 3-3 3-4")])
        );
        assert_eq!(all[2].latest_message_time_iso, "2023-10-22T01:24:10.473126");
        assert_eq!(all[0].latest_message_time_iso, "2023-10-01T01:24:10.473126");
        Ok(())
    })
}

#[test]
fn the_json_is_the_original_one_with_an_id() -> Done {
    let tester = started(Guarantee::ExactlyOnce)?;
    say(&tester, CHAT, "ann", "a")?;
    tester.advance(ms(3000))?;
    let written = tester.output(GROUPED, Json::<serde_json::Value>::new()).read()?.remove(0).value.unwrap();
    let fields: Vec<&String> = written.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["chat_id", "from_user", "group_id", "latest_message_time_iso", "list_of_messages"]);
    let fields: Vec<&String> = written["list_of_messages"][0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["body", "chat_id", "from_user", "message_id", "time", "time_iso", "to_user"]);
    Ok(())
}

#[test]
fn ten_messages_close_a_group_at_once_and_its_gap_with_it() -> Done {
    with_both(|_, tester, groups| {
        say(&tester, CHAT, "ann", "0 1 2 3 4 5 6 7 8 9 10 11")?;
        assert_eq!(read(&groups), pairs(&[("ann", "0 1 2 3 4 5 6 7 8 9")]));
        tester.advance(ms(3000))?;
        assert_eq!(read(&groups), pairs(&[("ann", "10 11")]));
        tester.advance(ms(60_000))?;
        assert_eq!(read(&groups), []);
        assert_eq!(chats_held(&tester), 0);
        Ok(())
    })
}

#[test]
fn each_message_begins_the_gap_anew_for_its_user_only() -> Done {
    with_both(|_, tester, groups| {
        say(&tester, CHAT, "ann", "a")?;
        say(&tester, CHAT, "ben", "b")?;
        tester.advance(ms(2999))?;
        say(&tester, CHAT, "ann", "c")?;
        assert_eq!(read(&groups), []);
        tester.advance(ms(1))?;
        assert_eq!(read(&groups), pairs(&[("ben", "b")]));
        tester.advance(ms(2998))?;
        assert_eq!(read(&groups), []);
        tester.advance(ms(1))?;
        assert_eq!(read(&groups), pairs(&[("ann", "a c")]));
        assert_eq!(chats_held(&tester), 0);
        Ok(())
    })
}

#[test]
fn the_same_user_has_a_group_in_each_chat() -> Done {
    with_both(|_, tester, groups| {
        for chat in ["c1", "c2", "c3", "c4"] {
            say(&tester, chat, "ann", &format!("{chat}-a {chat}-b"))?;
        }
        tester.advance(ms(3000))?;
        let seen: BTreeSet<_> = read(&groups).into_iter().collect();
        let each = ["c1", "c2", "c3", "c4"].map(|c| ("ann".to_owned(), format!("{c}-a {c}-b")));
        assert_eq!(seen, BTreeSet::from(each));
        Ok(())
    })
}

#[test]
fn a_group_of_a_sender_who_never_pauses_closes_by_its_age() -> Done {
    for guarantee in GUARANTEES {
        let tester = Tester::new();
        let limits = Limits { max_messages: 1000, max_age: ms(5000), ..Limits::default() };
        let graph = aggregator::define(&TopicNames::default(), limits, guarantee).build()?;
        tester.add_with(graph, move |p| p.guarantee(guarantee))?;
        let groups = tester.output(GROUPED, Json::<MessageGroup>::new());
        for id in ["0", "2", "4"] {
            say(&tester, CHAT, "ann", id)?;
            assert_eq!(read(&groups), []);
            tester.advance(ms(if id == "4" { 1000 } else { 2000 }))?;
        }
        assert_eq!(read(&groups), pairs(&[("ann", "0 2 4")]));
    }
    Ok(())
}

#[test]
fn a_redelivered_message_is_in_its_open_group_once() -> Done {
    with_both(|_, tester, groups| {
        say(&tester, CHAT, "ann", "a b a b c a")?;
        tester.advance(ms(3000))?;
        assert_eq!(read(&groups), pairs(&[("ann", "a b c")]));
        Ok(())
    })
}

#[test]
fn open_groups_survive_a_crash_and_a_move() -> Done {
    with_both(|_, tester, groups| {
        say(&tester, CHAT, "ann", "a b")?;
        tester.crash(AGGREGATOR)?;
        tester.start_instance(AGGREGATOR, 0)?;
        say(&tester, CHAT, "ann", "c")?;
        tester.add_instance(AGGREGATOR)?;
        tester.stop_instance(AGGREGATOR, 0)?;
        let second = tester.handle(AGGREGATOR, 1)?;
        tester.wait_until("the second has all", || second.status().tasks.len() >= 3)?;
        say(&tester, CHAT, "ann", "d")?;
        // Due while nobody is there.
        tester.stop_instance(AGGREGATOR, 1)?;
        tester.advance(ms(40_000))?;
        tester.start_instance(AGGREGATOR, 0)?;
        tester.wait_until("it closed", || chats_held(&tester) == 0)?;
        assert_eq!(read(&groups), pairs(&[("ann", "a b c d")]));
        Ok(())
    })
}

/// Whatever was acknowledged when it died, and whatever closed the group.
#[test]
fn at_least_once_a_crash_between_the_table_and_the_group_loses_neither() -> Done {
    for lost in [GROUPED, "chat-aggregator-table", "chat-aggregator-time"] {
        for by_count in [true, false] {
            let tester = started(Guarantee::AtLeastOnce)?;
            let groups = tester.output(GROUPED, Json::<MessageGroup>::new());
            let ids: Vec<String> = (0..if by_count { 10 } else { 3 }).map(|n| n.to_string()).collect();
            let (last, before) = ids.split_last().unwrap();
            say(&tester, CHAT, "ann", &before.join(" "))?;
            if !by_count {
                say(&tester, CHAT, "ann", last)?;
            }
            let cut = LogError::Retriable { what: "a write".into(), reason: "cut".into() };
            let fault = tester.log().faults().on(move |r| r.topic == lost).fail(cut);
            if by_count {
                tester.input(MESSAGES, MessageJson).push(CHAT, message(CHAT, "ann", last))?;
            } else {
                // What falls due can't be done.
                _ = tester.advance(ms(3000));
            }
            tester.run_for(Duration::from_secs(5));
            assert!(fault.hits() > 0, "{lost} {by_count}");
            tester.crash(AGGREGATOR)?;
            drop(fault);
            tester.start_instance(AGGREGATOR, 0)?;
            tester.drain()?;
            // Neither before nor after what is left of its timers.
            for _ in 0..5 {
                tester.advance(ms(5000))?;
            }
            let all: Vec<MessageGroup> = groups.read()?.into_iter().map(|r| r.value.unwrap()).collect();
            let whole = all.iter().filter(|g| shown(g).1 == ids.join(" ")).count();
            assert!(whole >= 1, "{lost} {by_count}: {:?}", all.iter().map(shown).collect::<Vec<_>>());
            check(&all, &ids, Guarantee::AtLeastOnce);
            assert_eq!(chats_held(&tester), 0, "{lost} {by_count}");
        }
    }
    Ok(())
}

/// Exactly once each message is in exactly one group; at least once in one or more, and groups of one id are the same.
fn check(groups: &[MessageGroup], sent: &[String], guarantee: Guarantee) {
    let mut by_id: BTreeMap<String, &MessageGroup> = BTreeMap::new();
    for group in groups {
        let other = by_id.insert(group.group_id.to_string(), group);
        assert!(other.is_none_or(|other| other == group), "{group:?} {other:?}");
        assert!((1..=10).contains(&group.list_of_messages.len()));
        assert!(group.list_of_messages.iter().all(|m| m.from_user == group.from_user && m.chat_id == group.chat_id));
    }
    let mut seen: Vec<&String> = groups.iter().flat_map(|g| &g.list_of_messages).map(|m| &m.message_id).collect();
    seen.sort();
    if guarantee == Guarantee::AtLeastOnce {
        seen.dedup();
    }
    let mut sent: Vec<&String> = sent.iter().collect();
    sent.sort();
    assert_eq!(seen, sent);
}

#[test]
fn crashes_at_any_moment_lose_nothing_and_exactly_once_double_nothing() -> Done {
    with_both(|guarantee, tester, groups| {
        let (input, mut sent) = (tester.input(MESSAGES, MessageJson), Vec::new());
        for round in 0..6 {
            for n in 0..40 {
                let id = format!("{round}-{n:02}");
                let (chat, user) = (format!("chat {}", n % 5), format!("user {}", n % 2));
                input.push(&chat, message(&chat, &user, &id))?;
                sent.push(id);
                // Not all of them at one moment, so that some groups close by their gap.
                tester.run_for(ms(2 * round));
                if n % 16 == 7 {
                    tester.advance(ms(1700))?;
                }
            }
            tester.crash(AGGREGATOR)?;
            tester.restart(AGGREGATOR)?;
        }
        tester.drain()?;
        for _ in 0..8 {
            tester.advance(ms(3000))?;
        }
        let all: Vec<MessageGroup> = groups.read()?.into_iter().map(|r| r.value.unwrap()).collect();
        check(&all, &sent, guarantee);
        assert!(all.iter().any(|g| g.list_of_messages.len() > 1));
        assert_eq!(chats_held(&tester), 0);
        Ok(())
    })
}

#[test]
fn what_is_no_message_is_put_aside_with_the_reason() -> Done {
    with_both(|_, tester, groups| {
        let input = tester.input(MESSAGES, MessageJson);
        input.push_bytes("1", Some(b"no JSON"), None, None)?;
        input.push_bytes("2", None, None, None)?;
        let late = Message { time_iso: "soon".into(), ..message("3", "ann", "x") };
        input.push_bytes("3", Some(&serde_json::to_vec(&late)?), None, None)?;
        input.send("4", message("4", "ann", "a"))?;
        tester.advance(ms(3000))?;
        let dead = tester.output("chat_messages-dlq", Bytes).read()?;
        let mut keys: Vec<String> = dead.iter().map(|r| r.key_text()).collect();
        keys.sort();
        assert_eq!(keys, ["1", "2", "3"]);
        assert!(dead.iter().any(|r| r.header("dead-letter-reason").unwrap().contains("time_iso")));
        assert_eq!(read(&groups), pairs(&[("ann", "a")]));
        Ok(())
    })
}

#[test]
fn a_message_without_its_chats_key_gets_it_and_is_grouped_once() -> Done {
    with_both(|_, tester, groups| {
        let input = tester.input(MESSAGES, MessageJson);
        input.push(None::<&str>, message(CHAT, "ann", "a"))?;
        input.push("another", message(CHAT, "ann", "b"))?;
        tester.drain()?;
        tester.advance(ms(3000))?;
        let all: Vec<MessageGroup> = groups.read()?.into_iter().map(|r| r.value.unwrap()).collect();
        check(&all, &["a".into(), "b".into()], Guarantee::ExactlyOnce);
        Ok(())
    })
}

#[test]
fn a_flood_that_does_not_fit_the_table_goes_round_and_is_not_lost() -> Done {
    with_both(|guarantee, tester, groups| {
        let (input, mut sent) = (tester.input(MESSAGES, MessageJson), Vec::new());
        for n in 0..60 {
            let (id, user) = (n.to_string(), format!("user {}", n % 3));
            input.push(CHAT, Message { body: "x".repeat(LARGEST - 400), ..message(CHAT, &user, &id) })?;
            sent.push(id);
        }
        tester.drain()?;
        tester.advance(ms(3000))?;
        let all: Vec<MessageGroup> = groups.read()?.into_iter().map(|r| r.value.unwrap()).collect();
        check(&all, &sent, guarantee);
        let came_again = tester.output(MESSAGES, Bytes).read()?.len() > sent.len();
        assert_eq!(came_again, guarantee == Guarantee::AtLeastOnce, "exactly once there is always room");
        assert!(tester.output("chat_messages-dlq", Bytes).read()?.is_empty());
        assert_eq!(chats_held(&tester), 0);
        Ok(())
    })
}

#[test]
fn large_messages_close_groups_that_would_not_fit_a_record() -> Done {
    with_both(|guarantee, tester, groups| {
        let (input, mut sent) = (tester.input(MESSAGES, MessageJson), Vec::new());
        for n in 0..30 {
            let id = n.to_string();
            let user = format!("user {}", n % 2);
            input.send(CHAT, Message { body: "x".repeat(LARGEST - 400), ..message(CHAT, &user, &id) })?;
            sent.push(id);
        }
        tester.advance(ms(3000))?;
        let all: Vec<MessageGroup> = groups.read()?.into_iter().map(|r| r.value.unwrap()).collect();
        check(&all, &sent, guarantee);
        assert!(all.iter().all(|g| g.list_of_messages.len() <= 4), "{:?}", all.iter().map(shown).collect::<Vec<_>>());
        Ok(())
    })
}
