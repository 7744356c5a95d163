//! Who somebody is: a JSON Web Token, signed with HS256.
//!
//! The crate knows many ways to sign; only the one that is used here is built, and no other is accepted.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, get_current_timestamp};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Until when it is good, in seconds since the epoch.
    pub exp: u64,
    /// Whose it is.
    pub user_id: String,
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    sign: EncodingKey,
    verify: DecodingKey,
    lifetime: Duration,
}

impl Tokens {
    /// Tokens that are signed with a secret and good for a time.
    pub fn new(secret: &[u8], lifetime: Duration) -> Self {
        // Whoever was first has installed the same.
        _ = HS256.install_default();
        Self { sign: EncodingKey::from_secret(secret), verify: DecodingKey::from_secret(secret), lifetime }
    }

    /// A token for a user. `None` if it can't be signed.
    pub fn issue(&self, user_id: &str) -> Option<String> {
        let exp = get_current_timestamp().saturating_add(self.lifetime.as_secs());
        encode(&Header::default(), &Claims { exp, user_id: user_id.to_owned() }, &self.sign).ok()
    }

    /// What a token says, if it is ours and still good.
    pub fn check(&self, token: &str) -> Option<Claims> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.leeway = 0;
        decode(token, &self.verify, &rules).ok().map(|token| token.claims)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out.
        write!(f, "Tokens({:?})", self.lifetime)
    }
}

/// Reads the secret that is kept in a file, or makes one and keeps it there, where only its owner can read it.
///
/// # Errors
/// When the file can't be read or written, or the machine gives no random numbers.
pub fn kept_secret(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(secret) if secret.len() < SHORTEST => {
            return Err(io::Error::other("is shorter than 32 bytes: delete it, and another is made"));
        }
        read => return read,
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|e| io::Error::other(e.to_string()))?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // Whole or not at all: half of a secret would be one that can be guessed.
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    _ = fs::remove_file(&part);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&part)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    Ok(secret.to_vec())
}

/// The shortest secret in bytes: as long as what it is used for.
pub const SHORTEST: usize = 32;

type HmacSha256 = Hmac<Sha256>;

struct Hs256(HmacSha256);

static HS256: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(hs256(*algorithm, key.as_bytes())?)),
    verifier_factory: |algorithm, key| Ok(Box::new(hs256(*algorithm, key.try_get_as_bytes()?)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

fn hs256(algorithm: Algorithm, secret: &[u8]) -> JwtResult<Hs256> {
    if algorithm != Algorithm::HS256 {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    HmacSha256::new_from_slice(secret).map(Hs256).map_err(|_| ErrorKind::InvalidKeyFormat.into())
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        // In a time that does not show how much of it is right.
        self.0.clone().chain_update(message).verify_slice(signature).map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_of_another_secret_or_way_or_time_is_none() {
        let tokens = Tokens::new(&[1; 32], HOUR);
        let token = tokens.issue("ann").unwrap();
        assert_eq!(tokens.check(&token).unwrap().user_id, "ann");
        assert_eq!(Tokens::new(&[2; 32], HOUR).check(&token), None);
        assert_eq!(tokens.check(&format!("{token}x")), None);
        assert_eq!(tokens.check("x.y.z"), None);
        let (head, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(tokens.check(&format!("{head}.")), None);
        // {"alg":"none","typ":"JWT"}
        let claims = head.split_once('.').unwrap().1;
        assert_eq!(tokens.check(&format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.{signature}")), None);
        assert_eq!(tokens.check(&format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")), None);
        let past = Claims { exp: get_current_timestamp() - 1, user_id: "ann".into() };
        let past = encode(&Header::default(), &past, &tokens.sign).unwrap();
        assert_eq!(tokens.check(&past), None);
    }

    #[test]
    fn it_is_what_others_make_of_it() {
        // The example of RFC 7515, appendix A.1, has no user_id, so only its signature is looked at.
        let key = [
            3, 35, 53, 75, 43, 15, 165, 188, 131, 126, 6, 101, 119, 123, 166, 143, 90, 179, 40, 230, 240, 84, 201, 40,
            169, 15, 132, 178, 210, 80, 46, 191, 211, 251, 90, 146, 210, 6, 71, 239, 150, 138, 180, 195, 119, 98, 61,
            34, 61, 46, 33, 114, 5, 46, 79, 8, 192, 205, 154, 245, 103, 208, 128, 163,
        ];
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &Tokens::new(&key, HOUR).sign, Algorithm::HS256);
        assert_eq!(signature.unwrap(), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }

    #[test]
    fn a_secret_is_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state").join("secret");
        let secret = kept_secret(&path).unwrap();
        assert!(secret.len() >= SHORTEST && secret != [0; 32]);
        assert_eq!(kept_secret(&path).unwrap(), secret);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(&path, "short").unwrap();
        assert!(kept_secret(&path).is_err());
    }
}
