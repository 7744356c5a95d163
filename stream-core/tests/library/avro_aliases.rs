//! Avro: a field that was written under another name is read where the reader's schema has that name as an alias.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stream_core::codec::{Avro, Codec, CodecError, SchemaRegistry};
use stream_core::group::Group;
use stream_core::testing::Tester;

use crate::support::{Done, values};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    user: String,
    at: Place,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    x: i64,
}

const OLD: &str = r#"{"type": "record", "name": "Visit", "namespace": "shop", "fields": [
    {"name": "user", "type": "string"},
    {"name": "at", "type": {"type": "record", "name": "Place", "fields": [{"name": "x", "type": "long"}]}}
]}"#;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New {
    place: NewPlace,
    visitor: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NewPlace {
    column: i64,
}

const NEW: &str = r#"{"type": "record", "name": "Visit", "namespace": "shop", "fields": [
    {"name": "place", "aliases": ["spot", "at"], "type":
        {"type": "record", "name": "Place", "fields": [{"name": "column", "aliases": ["x"], "type": "long"}]}},
    {"name": "visitor", "aliases": ["user"], "type": "string", "default": "nobody"}
]}"#;

async fn written<T: Serialize + DeserializeOwned + 'static>(
    registry: &SchemaRegistry,
    schema: &str,
    value: &T,
) -> Vec<u8> {
    let codec = Avro::<T>::new(schema, registry).unwrap();
    codec.prepare("visits").await.unwrap();
    let mut out = Vec::new();
    codec.encode(value, &mut out).unwrap();
    out
}

async fn read<T: Serialize + DeserializeOwned + 'static>(
    registry: &SchemaRegistry,
    schema: &str,
    bytes: &[u8],
) -> Result<T, CodecError> {
    let codec = Avro::<T>::new(schema, registry)?;
    match codec.decode(bytes) {
        Err(CodecError::NotLoaded(id)) => {
            codec.load(id).await?;
            codec.decode(bytes)
        }
        other => other,
    }
}

#[test]
fn a_group_reads_records_from_before_fields_were_renamed() -> Done {
    let registry = SchemaRegistry::in_memory();
    let mut g = Group::define("g");
    let out = g.output("out", stream_core::codec::Text);
    g.input("visits", Avro::<New>::new(NEW, &registry)?, move |ctx, visit| {
        ctx.emit(out, ctx.key(), format!("{} at {}", visit.visitor, visit.place.column))
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let old = Old { user: "ann".to_owned(), at: Place { x: 3 } };
    let new = New { place: NewPlace { column: 4 }, visitor: "bob".to_owned() };
    tester.input("visits", Avro::<Old>::new(OLD, &registry)?).send("k", &old)?;
    tester.input("visits", Avro::<New>::new(NEW, &registry)?).send("k", &new)?;
    assert_eq!(values(&tester.output("out", stream_core::codec::Text)), ["ann at 3", "bob at 4"]);
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Two {
    a: i64,
    b: i64,
}

#[tokio::test]
async fn a_name_goes_before_an_alias() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One {
        b: i64,
    }
    let registry = SchemaRegistry::in_memory();
    let old = r#"{"type": "record", "name": "Two", "fields": [
        {"name": "a", "type": "long"}, {"name": "b", "type": "long"}]}"#;
    let bytes = written(&registry, old, &Two { a: 1, b: 2 }).await;
    let new = r#"{"type": "record", "name": "Two", "fields": [{"name": "b", "aliases": ["a"], "type": "long"}]}"#;
    assert_eq!(read::<One>(&registry, new, &bytes).await.unwrap(), One { b: 2 });
}

#[tokio::test]
async fn aliases_hold_inside_of_arrays_maps_and_unions() {
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Before {
        list: Vec<Item>,
        map: BTreeMap<String, Item>,
        one: Option<Item>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Item {
        n: i64,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct After {
        list: Vec<Renamed>,
        map: BTreeMap<String, Renamed>,
        one: Option<Renamed>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        number: i64,
    }
    let schema = |item: &str, field: &str| {
        let item =
            |i: u8| format!(r#"{{"type": "record", "name": "{item}{i}", "fields": [{{"type": "long", {field}}}]}}"#);
        format!(
            r#"{{"type": "record", "name": "All", "fields": [
                {{"name": "list", "type": {{"type": "array", "items": {}}}}},
                {{"name": "map", "type": {{"type": "map", "values": {}}}}},
                {{"name": "one", "type": ["null", {}]}}]}}"#,
            item(1),
            item(2),
            item(3)
        )
    };
    let registry = SchemaRegistry::in_memory();
    let item = Item { n: 5 };
    let map = BTreeMap::from([("k".to_owned(), item.clone())]);
    let before = Before { list: vec![item.clone()], map, one: Some(item) };
    let bytes = written(&registry, &schema("Item", r#""name": "n""#), &before).await;
    let new = schema("Item", r#""name": "number", "aliases": ["n"]"#);
    let after = read::<After>(&registry, &new, &bytes).await.unwrap();
    let item = Renamed { number: 5 };
    assert_eq!(
        after,
        After { list: vec![item.clone()], map: BTreeMap::from([("k".to_owned(), item.clone())]), one: Some(item) }
    );
}

#[tokio::test]
async fn without_an_alias_a_renamed_field_is_missing() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Other {
        z: i64,
    }
    let registry = SchemaRegistry::in_memory();
    let old = r#"{"type": "record", "name": "Two", "fields": [
        {"name": "a", "type": "long"}, {"name": "b", "type": "long"}]}"#;
    let bytes = written(&registry, old, &Two { a: 1, b: 2 }).await;
    let new = r#"{"type": "record", "name": "Two", "fields": [{"name": "z", "type": "long"}]}"#;
    assert!(matches!(read::<Other>(&registry, new, &bytes).await, Err(CodecError::Invalid(_))));
}
