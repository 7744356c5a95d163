//! Made-up people, who talk two and two, and answer who talks to them. One who is played on the page says nothing by
//! itself for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat::accounts::{Account, Accounts, Passwords};
use chat::api::Api;
use chat::{MessageGroup, Room};
use futures::future::{join, join_all};
use processors_common::Exit;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Everybody, with passwords that are no secret here.
pub(crate) struct People {
    all: Vec<Person>,
    rooms: Vec<Room>,
    /// Who is played on the page, and until when.
    taken: Mutex<BTreeMap<String, Instant>>,
}

/// Somebody, as the page has to know them to log in.
#[derive(Serialize)]
pub(crate) struct Person {
    username: String,
    password: String,
    #[serde(skip)]
    id: String,
}

const NAMES: [&str; 5] = ["Ann", "Björn", "Chidi", "Dora", "Emeka"];
const TAKEN: Duration = Duration::from_secs(120);

const TALK: [&[&str]; 8] = [
    &["Hey!", "Are you there?", "I have found the tea kettle."],
    &["The train is late again.", "Half an hour this time."],
    &["Did you see the match?", "What a goal", "in the last minute!"],
    &["Lunch at noon?"],
    &["I am in the market.", "They have figs.", "And the small plums.", "Shall I bring some?"],
    &["The lamp works again.", "It was the bulb."],
    &["Have you read it?", "I am at the last chapter."],
    &["It rains here.", "And there?"],
];
const ANSWERS: [&str; 6] =
    ["Really?", "That is good to hear.", "Tell me more!", "I thought so, too.", "Ha, yes.", "Let me think about it."];

impl People {
    /// Makes accounts and chats.
    pub(crate) async fn invite(api: &Api, accounts: &dyn Accounts) -> Result<Self, Exit> {
        let passwords = Passwords::new().ok_or_else(|| Exit::failed("the machine gives no random numbers"))?;
        let mut all = Vec::new();
        for name in NAMES {
            let (id, password) = (Uuid::new_v4().to_string(), format!("demo-{}", name.to_lowercase()));
            let hash = passwords.hash(password.clone()).await;
            let hash = hash.ok_or_else(|| Exit::failed("the machine gives no random numbers"))?;
            accounts.create(&Account { id: id.clone(), username: name.into(), hash }).await?;
            all.push(Person { username: name.into(), password, id });
        }
        let mut rooms = Vec::new();
        for (n, one) in all.iter().enumerate() {
            for other in all.iter().skip(n + 1) {
                let ids = [one, other].map(|p| p.id.clone());
                rooms.push(Room::of(ids, [one, other].map(|p| p.username.clone())));
            }
        }
        for begun in join_all(rooms.iter().map(|room| api.begin(room))).await {
            begun?;
        }
        Ok(Self { all, rooms, taken: Mutex::default() })
    }

    pub(crate) fn all(&self) -> &[Person] {
        &self.all
    }

    pub(crate) fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    pub(crate) fn name(&self, id: &str) -> &str {
        self.all.iter().find(|p| p.id == id).map_or("somebody", |p| &p.username)
    }

    /// Somebody is played on the page.
    pub(crate) fn take(&self, id: &str) {
        if self.all.iter().any(|p| p.id == id) {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.insert(id.to_owned(), Instant::now() + TAKEN);
        }
    }

    fn is_taken(&self, id: &str) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(id).is_some_and(|until| *until > Instant::now())
    }
}

/// So many conversations at once.
const AT_ONCE: usize = 3;

/// Talks for ever.
pub(crate) async fn talk(people: Arc<People>, api: Arc<Api>) {
    let chatting = join_all((0..AT_ONCE).map(|n| chat(&people, &api, n)));
    join(chatting, answer(&people, &api)).await;
}

/// Talks in every so many-th chat, so that nobody talks over somebody.
async fn chat(people: &People, api: &Api, n: usize) {
    let (mut random, rooms) = (Random::new(n as u64), people.rooms.iter().skip(n).step_by(AT_ONCE).collect::<Vec<_>>());
    for lines in TALK.iter().cycle().skip(3 * n) {
        let Some(room) = random.of(&rooms) else { return };
        let turn = usize::from(random.below(2) == 0);
        let (from, to) = (&room.users_id[turn], &room.users_id[1 - turn]);
        if !people.is_taken(from) {
            for line in *lines {
                say(api, from, to, line, room).await;
                random.pause(300, 1200).await;
            }
        }
        random.pause(500, 2500).await;
    }
}

/// Answers what the page says, once it comes in a group.
async fn answer(people: &People, api: &Api) {
    let (Some(mut heard), mut random) = (api.listen(), Random::new(99)) else { return };
    // One who falls behind has nothing to say.
    while let Ok(group) = heard.recv().await {
        let group: &MessageGroup = &group;
        let room = people.rooms.iter().find(|r| r.chat_id.to_string() == group.chat_id);
        let Some((room, first)) = room.zip(group.list_of_messages.first()) else { continue };
        if people.is_taken(&group.from_user) && !people.is_taken(&first.to_user) {
            random.pause(400, 1000).await;
            let count = group.list_of_messages.len();
            if count > 1 {
                say(api, &first.to_user, &group.from_user, &format!("{count} messages at once!"), room).await;
                random.pause(300, 800).await;
            }
            let answer = random.of(&ANSWERS).copied().unwrap_or_default();
            say(api, &first.to_user, &group.from_user, answer, room).await;
        }
    }
}

async fn say(api: &Api, from: &str, to: &str, body: &str, room: &Room) {
    if let Err(error) = api.say(from, to, body, room.chat_id).await {
        tracing::error!(?error, "something was not said");
    }
}

/// xorshift64*: good enough to make things up.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Any state but zero will do.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound.max(1)
    }

    fn of<'a, T>(&mut self, some: &'a [T]) -> Option<&'a T> {
        some.get(usize::try_from(self.below(some.len() as u64)).unwrap_or_default())
    }

    async fn pause(&mut self, least: u64, most: u64) {
        sleep(Duration::from_millis(least + self.below(most - least))).await;
    }
}
