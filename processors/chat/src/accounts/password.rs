//! Hashing and checking passwords.
//!
//! A hash takes a tenth of a second and 19 MiB, on purpose; so only a few are made at once, away from the threads that
//! answer.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// So many at once.
const AT_ONCE: usize = 4;

/// Hashes and checks passwords.
#[derive(Clone, Debug)]
pub struct Passwords {
    room: Arc<Semaphore>,
    /// For a name that nobody has: it takes as long to be refused as a wrong password.
    nobody: Arc<str>,
}

impl Passwords {
    /// Ready to hash. `None` if the machine gives no random numbers.
    pub fn new() -> Option<Self> {
        Some(Self { room: Arc::new(Semaphore::new(AT_ONCE)), nobody: hash("nobody's")?.into() })
    }

    /// The hash of a new password. `None` if the machine gives no random numbers.
    pub async fn hash(&self, password: String) -> Option<String> {
        let _room = self.room.acquire().await.ok()?;
        spawn_blocking(move || hash(&password)).await.ok().flatten()
    }

    /// Whether it is the password of that hash; of none, it never is.
    pub async fn verify(&self, password: String, hash: Option<String>) -> bool {
        let Ok(_room) = self.room.acquire().await else { return false };
        let (known, hash) = (hash.is_some(), hash.unwrap_or_else(|| self.nobody.to_string()));
        let verified = spawn_blocking(move || {
            let hash = PasswordHash::new(&hash).ok()?;
            Argon2::default().verify_password(password.as_bytes(), &hash).ok()
        });
        verified.await.ok().flatten().is_some() && known
    }
}

fn hash(password: &str) -> Option<String> {
    Argon2::default().hash_password(password.as_bytes()).ok().map(|hash| hash.to_string())
}
