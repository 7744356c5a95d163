//! Avro values with a schema registry: the bytes, evolution of schemas, and what goes wrong with registries.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stream_core::codec::{Avro, Codec, CodecError, SchemaRegistry};

use crate::fake_registry::FakeRegistry;

const CLICK: &str = r#"{"type": "record", "name": "Click", "namespace": "shop", "fields": [
    {"name": "user", "type": "string"},
    {"name": "count", "type": "long"}
]}"#;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Click {
    user: String,
    count: i64,
}

/// A later version: a field with a default, and one the less.
const CLICK_2: &str = r#"{"type": "record", "name": "Click", "namespace": "shop", "fields": [
    {"name": "user", "type": "string"},
    {"name": "shop", "type": "string", "default": "main"},
    {"name": "coupon", "type": ["null", "string"], "default": null}
]}"#;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Click2 {
    user: String,
    shop: String,
    coupon: Option<String>,
}

fn click() -> Click {
    Click { user: "alice".into(), count: -3 }
}

fn codec<T>(schema: &str, registry: &FakeRegistry) -> Avro<T> {
    Avro::new(schema, &SchemaRegistry::new(&registry.url).unwrap()).unwrap()
}

fn encoded<T>(codec: &impl Codec<T>, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(value, &mut out).unwrap();
    out
}

/// Decodes as a task does: what is not loaded is loaded, once.
async fn decoded<T>(codec: &impl Codec<T>, bytes: &[u8]) -> Result<T, CodecError> {
    match codec.decode(bytes) {
        Err(CodecError::NotLoaded(id)) => {
            codec.load(id).await?;
            codec.decode(bytes)
        }
        other => other,
    }
}

#[tokio::test]
async fn values_come_back_in_confluents_frame() {
    let registry = FakeRegistry::start();
    registry.add("other-value", "\"string\"");
    let codec = codec::<Click>(CLICK, &registry);
    codec.prepare("clicks").await.unwrap();
    let mut out = b"before".to_vec();
    codec.encode(&click(), &mut out).unwrap();
    // 00, id 102, then the text's length (zigzag) and bytes, then -3.
    assert_eq!(out, b"before\x00\x00\x00\x00\x66\x0aalice\x05");
    assert_eq!(codec.decode(&out[6..]).unwrap(), click());
    assert_eq!(registry.requests(), ["POST /subjects/clicks-value/versions"]);
    assert_eq!(codec.name(), "avro shop.Click");
}

#[tokio::test]
async fn one_schema_is_asked_for_once() {
    let registry = FakeRegistry::start();
    let writer = codec::<Click>(CLICK, &registry);
    writer.prepare("clicks").await.unwrap();
    let bytes = encoded(&writer, &click());

    let reader = codec::<Click>(CLICK, &registry);
    assert_eq!(reader.decode(&bytes), Err(CodecError::NotLoaded(101)));
    for _ in 0..3 {
        assert_eq!(decoded(&reader, &bytes).await.unwrap(), click());
        reader.load(101).await.unwrap();
    }
    let asked: Vec<String> = registry.requests().into_iter().filter(|request| request.starts_with("GET")).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("GET /schemas/ids/101"), "{asked:?}");
    // Another topic has a subject of its own; the id of the schema stays.
    writer.prepare("more-clicks").await.unwrap();
    assert_eq!(registry.requests().last().unwrap(), "POST /subjects/more-clicks-value/versions");
    assert_eq!(encoded(&writer, &click()), bytes);
    assert_eq!(decoded(&writer, &bytes).await.unwrap(), click());
}

#[tokio::test]
async fn schemas_evolve_both_ways() {
    let registry = FakeRegistry::start();
    let old = codec::<Click>(CLICK, &registry);
    let new = codec::<Click2>(CLICK_2, &registry);
    old.prepare("clicks").await.unwrap();
    new.prepare("clicks").await.unwrap();
    let expected = Click2 { user: "alice".into(), shop: "main".into(), coupon: None };
    assert_eq!(decoded(&new, &encoded(&old, &click())).await.unwrap(), expected);
    let full = Click2 { user: "bob".into(), shop: "west".into(), coupon: Some("10%".into()) };
    assert_eq!(decoded(&new, &encoded(&new, &full)).await.unwrap(), full);

    // The old type has a field without a default that the new values lack: these can't be read, and say which.
    let bytes = encoded(&new, &full);
    let error = decoded(&old, &bytes).await.unwrap_err();
    assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("count")), "{error}");
    // And it is no passing trouble.
    assert_eq!(decoded(&old, &bytes).await.unwrap_err(), error);
    assert_eq!(decoded(&old, &encoded(&old, &click())).await.unwrap(), click());
}

#[tokio::test]
async fn numbers_are_promoted_and_names_of_fields_matter() {
    let registry = FakeRegistry::start();
    let narrow = r#"{"type": "record", "name": "Click", "namespace": "shop", "fields": [
        {"name": "count", "type": "int"}, {"name": "user", "type": "string"}, {"name": "extra", "type": "bytes"}]}"#;
    let id = registry.add("clicks-value", narrow);
    // count 5, user "bob", two bytes.
    let bytes = [&[0][..], &id.to_be_bytes(), b"\x0a\x06bob\x04\x01\x02"].concat();
    let reader = codec::<Click>(CLICK, &registry);
    assert_eq!(decoded(&reader, &bytes).await.unwrap(), Click { user: "bob".into(), count: 5 });
}

#[tokio::test]
async fn every_shape_of_data_comes_back() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Colour {
        Red,
        Green,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        x: f64,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        yes: bool,
        colour: Colour,
        inners: Vec<Inner>,
        by_name: BTreeMap<String, i32>,
        maybe: Option<Inner>,
        ratio: f32,
    }
    const ALL: &str = r#"{"type": "record", "name": "All", "fields": [
        {"name": "yes", "type": "boolean"},
        {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["Red", "Green"]}},
        {"name": "inners", "type": {"type": "array", "items":
            {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "double"}]}}},
        {"name": "by_name", "type": {"type": "map", "values": "int"}},
        {"name": "maybe", "type": ["null", "Inner"]},
        {"name": "ratio", "type": "float"}
    ]}"#;
    let value = || All {
        yes: true,
        colour: Colour::Green,
        inners: vec![Inner { x: 1.5 }, Inner { x: -0.0 }],
        by_name: BTreeMap::from([("a".into(), 1), ("b".into(), -2)]),
        maybe: Some(Inner { x: 2.0 }),
        ratio: 0.25,
    };
    let registry = FakeRegistry::start();
    let same = codec::<All>(ALL, &registry);
    same.prepare("all").await.unwrap();
    let bytes = encoded(&same, &value());
    assert_eq!(same.decode(&bytes).unwrap(), value());
    // And by way of resolution, which is another path.
    let other = ALL.replace(r#"{"name": "yes""#, r#"{"name": "new", "type": "int", "default": 1}, {"name": "yes""#);
    let resolving = codec::<All>(&other, &registry);
    assert_eq!(decoded(&resolving, &bytes).await.unwrap(), value());
    // A schema that is no record.
    let long = codec::<i64>("\"long\"", &registry);
    long.prepare("longs").await.unwrap();
    assert_eq!(long.decode(&encoded(&long, &i64::MIN)).unwrap(), i64::MIN);
    assert_eq!(long.name(), "avro \"long\"");
}

#[tokio::test]
async fn a_schema_can_come_with_the_type() {
    struct Count;
    impl apache_avro::AvroSchema for Count {
        fn get_schema() -> apache_avro::Schema {
            apache_avro::Schema::parse_str(CLICK).unwrap()
        }
    }
    let registry = FakeRegistry::start();
    let derived = Avro::<Count>::derived(&SchemaRegistry::new(&registry.url).unwrap()).unwrap();
    assert!(format!("{derived:?}").contains("shop.Click"), "{derived:?}");
}

#[tokio::test]
async fn bytes_that_are_none_of_this_are_invalid() {
    let registry = FakeRegistry::start();
    let codec = codec::<Click>(CLICK, &registry);
    codec.prepare("clicks").await.unwrap();
    for bytes in [&b""[..], b"\0\0\0", b"{\"user\":\"alice\"}", b"\x01\0\0\0\x65\x0aalice\x05"] {
        let error = codec.decode(bytes).unwrap_err();
        assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("schema id")), "{error}");
    }
    let good = encoded(&codec, &click());
    // Cut short anywhere, or with something behind.
    for length in 5..good.len() {
        let error = codec.decode(&good[..length]).unwrap_err();
        assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("schema 101")), "{length}: {error}");
    }
    let error = codec.decode(&[&good[..], b"x"].concat()).unwrap_err();
    assert!(format!("{error:?}").contains("1 bytes are left over"), "{error}");
}

#[tokio::test]
async fn a_value_that_does_not_fit_its_schema_is_invalid() {
    let registry = FakeRegistry::start();
    let codec = codec::<Click2>(CLICK, &registry);
    codec.prepare("clicks").await.unwrap();
    let value = Click2 { user: "alice".into(), shop: "main".into(), coupon: None };
    let error = codec.encode(&value, &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("shop.Click")), "{error}");
}

#[tokio::test]
async fn nothing_is_written_before_the_schema_has_an_id() {
    let registry = FakeRegistry::start();
    let codec = codec::<Click>(CLICK, &registry);
    let error = codec.encode(&click(), &mut Vec::new()).unwrap_err();
    assert!(format!("{error:?}").contains("not prepared"), "{error}");
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_invalid() {
    let registry = FakeRegistry::start();
    let codec = codec::<Click>(CLICK, &registry);
    let error = decoded(&codec, b"\0\0\0\x01\0\x0aalice\x05").await.unwrap_err();
    assert!(matches!(error, CodecError::Invalid(_)), "{error}");
    assert!(format!("{error:?}").contains("id 256") && format!("{error:?}").contains(&registry.url), "{error}");
}

#[tokio::test]
async fn a_schema_that_is_no_use_is_invalid() {
    let registry = FakeRegistry::start();
    let codec = codec::<Click>(CLICK, &registry);
    registry.force(200, r#"{"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}"#);
    let error = codec.load(1).await.unwrap_err();
    assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("not Avro")), "{error}");
    registry.force(200, r#"{"schema": "\"x.Y\"", "references": [{"name": "x.Y", "subject": "y", "version": 1}]}"#);
    let error = codec.load(1).await.unwrap_err();
    assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("refers to")), "{error}");
    registry.force(200, r#"{"schema": "\"no such type\""}"#);
    let error = codec.load(1).await.unwrap_err();
    assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("schema 1 ")), "{error}");
}

#[tokio::test]
async fn a_registry_that_fails_is_asked_again_later() {
    let registry = FakeRegistry::start();
    let codec = codec::<Click>(CLICK, &registry);
    // A proxy's page, the registry's own trouble, wrong credentials, nonsense: none of it says a thing about the schema.
    let troubles = [
        (500, r#"{"error_code": 50001, "message": "Error in the backend"}"#),
        (503, "<html>busy</html>"),
        (404, "<html>no such page</html>"),
        (401, r#"{"error_code": 40101, "message": "Unauthorized"}"#),
        (200, "{}"),
        (200, "nonsense"),
    ];
    for (status, body) in troubles {
        registry.force(status, body);
        let error = codec.prepare("clicks").await.unwrap_err();
        assert!(matches!(&error, CodecError::Unavailable(reason) if reason.contains(&registry.url)), "{error}");
        assert!(format!("{error:?}").contains("clicks-value"), "{error}");
        registry.force(status, body);
        let error = codec.load(101).await.unwrap_err();
        assert!(matches!(&error, CodecError::Unavailable(reason) if reason.contains(&registry.url)), "{error}");
    }
    codec.prepare("clicks").await.unwrap();
    codec.load(101).await.unwrap();
    assert_eq!(codec.decode(&encoded(&codec, &click())).unwrap(), click());
}

#[tokio::test]
async fn a_schema_that_the_registry_does_not_want_is_final() {
    let registry = FakeRegistry::start();
    let codec = codec::<Click>(CLICK, &registry);
    registry.force(409, r#"{"error_code": 409, "message": "READER_FIELD_MISSING_DEFAULT_VALUE count"}"#);
    let error = codec.prepare("clicks").await.unwrap_err();
    let CodecError::Invalid(reason) = &error else { panic!("{error}") };
    for part in ["clicks-value", "READER_FIELD_MISSING_DEFAULT_VALUE count", "default", &registry.url] {
        assert!(reason.contains(part), "{reason}");
    }
    registry.force(422, r#"{"error_code": 42201, "message": "Invalid schema"}"#);
    assert!(matches!(codec.prepare("clicks").await, Err(CodecError::Invalid(_))));
}

#[tokio::test]
async fn a_registry_that_is_down_is_named() {
    let url = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", gone.local_addr().unwrap())
    };
    let codec = Avro::<Click>::new(CLICK, &SchemaRegistry::new(&url).unwrap()).unwrap();
    for error in [codec.prepare("clicks").await.unwrap_err(), codec.load(1).await.unwrap_err()] {
        assert!(matches!(error, CodecError::Unavailable(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(&url) && text.to_lowercase().contains("refused"), "{text}");
    }
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let registry = SchemaRegistry::new(&url).unwrap().timeout(Duration::from_millis(50));
    let codec = Avro::<Click>::new(CLICK, &registry).unwrap();
    let error = codec.load(1).await.unwrap_err();
    assert!(matches!(&error, CodecError::Unavailable(reason) if reason.contains(&url)), "{error}");
}

#[tokio::test]
async fn the_next_url_is_tried() {
    let down = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", gone.local_addr().unwrap())
    };
    let up = FakeRegistry::start();
    let registry = SchemaRegistry::new(&format!("{down}, {}/", up.url)).unwrap();
    let codec = Avro::<Click>::new(CLICK, &registry).unwrap();
    codec.prepare("clicks").await.unwrap();
    assert_eq!(up.requests(), ["POST /subjects/clicks-value/versions"]);
}

#[tokio::test]
async fn without_auto_register_a_schema_must_be_there() {
    let registry = FakeRegistry::start();
    let settings = SchemaRegistry::new(&registry.url).unwrap().auto_register(false);
    let codec = Avro::<Click>::new(CLICK, &settings).unwrap();
    let missing = |error: CodecError, what: &str| {
        let CodecError::Invalid(reason) = &error else { panic!("{error}") };
        let how = format!("POST {}/subjects/clicks-value/versions", registry.url);
        for part in ["clicks-value", what, "auto_register", &how, "\"shop\""] {
            assert!(reason.contains(part), "{part:?} is not in: {reason}");
        }
    };
    missing(codec.prepare("clicks").await.unwrap_err(), "nothing is registered");
    registry.add("clicks-value", CLICK_2);
    missing(codec.prepare("clicks").await.unwrap_err(), "version 1, is another");
    assert!(codec.encode(&click(), &mut Vec::new()).is_err());
    registry.force(500, "{}");
    assert!(matches!(codec.prepare("clicks").await, Err(CodecError::Unavailable(_))));

    let id = registry.add("clicks-value", CLICK);
    codec.prepare("clicks").await.unwrap();
    assert_eq!(encoded(&codec, &click())[1..5], id.to_be_bytes());
    assert!(registry.requests().iter().all(|request| !request.ends_with("/versions")), "nothing was registered");
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let registry = FakeRegistry::start();
    // "aladdin:opensesame"
    let basic = "Basic YWxhZGRpbjpvcGVuc2VzYW1l";
    let by_option = SchemaRegistry::new(&registry.url).unwrap().basic_auth("aladdin", Some("opensesame"));
    let by_url = SchemaRegistry::new(&registry.url.replace("://", "://aladdin:opensesame@")).unwrap();
    for settings in [by_option, by_url] {
        let codec = Avro::<Click>::new(CLICK, &settings).unwrap();
        codec.prepare("clicks").await.unwrap();
        assert_eq!(registry.authorization().as_deref(), Some(basic));
        registry.force(401, r#"{"error_code": 40101, "message": "Unauthorized"}"#);
        let error = codec.prepare("clicks").await.unwrap_err();
        for shown in [format!("{settings:?}"), format!("{codec:?}"), format!("{error} {error:?}")] {
            assert!(!shown.contains("opensesame") && !shown.contains("YWxh"), "{shown}");
            assert!(shown.contains(&registry.url), "{shown}");
        }
    }
}

#[test]
fn urls_are_looked_at_early() {
    for bad in ["", "localhost:8081", "ftp://x", "http://", "me:hush@host:1"] {
        let error = SchemaRegistry::new(bad).unwrap_err();
        assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("http://")), "{bad}: {error}");
        assert!(!format!("{error:?}").contains("hush"), "{error}");
    }
    let tls = SchemaRegistry::new("https://host");
    assert_eq!(tls.is_ok(), cfg!(feature = "tls"), "{tls:?}");
    let registry = SchemaRegistry::new("http://localhost:8081").unwrap();
    let error = Avro::<Click>::new("{\"type\": \"nothing\"}", &registry).unwrap_err();
    assert!(format!("{error:?}").contains("not an Avro schema"), "{error}");
}

/// The same against a registry that others wrote.
#[tokio::test]
#[ignore = "needs a real schema registry: set STREAM_TEST_REGISTRY to the URL of its Confluent API"]
async fn a_real_registry_does_the_same() {
    let url = std::env::var("STREAM_TEST_REGISTRY").expect("STREAM_TEST_REGISTRY is the URL of a schema registry");
    let registry = SchemaRegistry::new(&url).unwrap();
    // New at each run.
    let topic = format!("avro-test-{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos());
    let strict = Avro::<Click>::new(CLICK, &registry.clone().auto_register(false)).unwrap();
    let error = strict.prepare(&topic).await.unwrap_err();
    assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("nothing is registered")), "{error}");

    let old = Avro::<Click>::new(CLICK, &registry).unwrap();
    old.prepare(&topic).await.unwrap();
    strict.prepare(&topic).await.unwrap();
    let bytes = encoded(&old, &click());
    assert_eq!(encoded(&strict, &click()), bytes, "looked up and registered, the id is the same");

    let new = Avro::<Click2>::new(CLICK_2, &registry).unwrap();
    assert!(matches!(new.decode(&bytes), Err(CodecError::NotLoaded(_))));
    let expected = Click2 { user: "alice".into(), shop: "main".into(), coupon: None };
    assert_eq!(decoded(&new, &bytes).await.unwrap(), expected);
    let unregistered = Avro::<Click2>::new(CLICK_2, &registry.clone().auto_register(false)).unwrap();
    let error = unregistered.prepare(&topic).await.unwrap_err();
    assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("is another")), "{error}");
    let error = old.load(0x7fff_0000).await.unwrap_err();
    assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("knows no schema")), "{error}");
}
