//! Tables of other groups, views, codecs that load and real time in a tester.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use stream_core::codec::{Int64, Text};
use stream_core::group::Group;
use stream_core::testing::{Tester, TesterError};

use crate::support::{Done, values, with_both};

#[test]
fn a_view_has_what_is_drained_and_follows_after_a_restart_of_the_group() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("counts").table(Int64);
        g.input("words", Text, |ctx, _| ctx.update(|n| n.unwrap_or(0) + 1));
        let tester = Tester::with_partitions(3);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let view = tester.view("counts-table", Int64)?;
        let words = tester.input("words", Text);
        for n in 1..20_i64 {
            let key = format!("k{}", n % 5);
            words.send(&key, "x")?;
            assert_eq!(view.get(&key)?, Some((n + 4) / 5), "{key}");
            if n == 7 {
                tester.crash("counts")?;
                tester.restart("counts")?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_view_of_no_table_is_an_error() {
    let tester = Tester::new();
    assert!(matches!(tester.view("nothing", Text), Err(TesterError::View(_))));
}

#[test]
fn a_table_of_another_group_is_joined_and_looked_up() -> Done {
    with_both(|guarantee| {
        let tester = Tester::with_partitions(3);
        let (users, prices) = (tester.create_table("users-table", Text)?, tester.create_table("prices-table", Int64)?);
        users.send("7", "Ada")?;
        prices.send("tea", 3)?;
        let mut g = Group::define("orders");
        let (names, costs) = (g.join("users-table", Text), g.lookup("prices-table", Int64));
        let out = g.output("out", Text);
        g.input("in", Text, move |ctx, product| {
            let (name, price) = (ctx.join(names)?, ctx.lookup(costs, &product)?);
            ctx.emit(out, ctx.key(), format!("{name:?} {price:?}"))
        });
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let orders = tester.input("in", Text);
        orders.send("7", "tea")?;
        // What a table gets later is there once the group has worked for a moment: nothing orders two topics.
        prices.send_null("tea")?;
        tester.run_for(Duration::from_secs(1));
        orders.send("8", "tea")?;
        assert_eq!(values(&tester.output("out", Text)), [r#"Some("Ada") Some(3)"#, "None None"]);
        // It is there already: it stays as it is.
        assert_eq!(
            tester.create_table("users-table", Text).map(|_| tester.view("users-table", Text))??.get("7")?,
            Some("Ada".to_owned())
        );
        Ok(())
    })
}

/// A server that answers after a while: virtual time would be over before that.
#[test]
fn in_real_time_a_callback_does_io() -> Done {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            std::thread::sleep(Duration::from_millis(200));
            drop(connection);
        }
    });
    let group = || {
        let mut g = Group::define("g");
        let out = g.output("out", Text);
        g.input_async("in", Text, async move |ctx, text| {
            let read = async {
                let mut connection = tokio::net::TcpStream::connect(address).await?;
                tokio::io::AsyncReadExt::read(&mut connection, &mut [0]).await
            };
            let answer = tokio::time::timeout(Duration::from_secs(5), read).await;
            ctx.emit(out, ctx.key(), if answer.is_ok() { text } else { "too late".to_owned() })
        });
        g.build()
    };
    for (tester, wanted) in [(Tester::new(), "too late"), (Tester::in_real_time(1), "asked")] {
        tester.add(group()?)?;
        let began = Instant::now();
        tester.input("in", Text).send("k", "asked")?;
        assert_eq!(values(&tester.output("out", Text)), [wanted]);
        assert!(wanted == "too late" || began.elapsed() >= Duration::from_millis(200));
    }
    Ok(())
}

#[cfg(feature = "avro")]
mod avro {
    use serde::{Deserialize, Serialize};
    use stream_core::codec::{Avro, Codec, CodecError, SchemaRegistry};
    use stream_core::group::Group;
    use stream_core::testing::Tester;

    use crate::fake_registry::FakeRegistry;
    use crate::support::Done;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Click {
        count: i64,
    }
    const CLICK: &str = r#"{"type": "record", "name": "Click", "fields": [{"name": "count", "type": "long"}]}"#;

    fn sums(registry: &SchemaRegistry, tester: &Tester) -> Done {
        let codec = || Avro::<Click>::new(CLICK, registry);
        let mut g = Group::define("sums").table(codec()?);
        g.input("clicks", codec()?, |ctx, click| {
            ctx.update(|sum: Option<Click>| Click { count: sum.map_or(0, |s| s.count) + click.count })
        });
        tester.add(g.build()?)?;
        for count in [1, 2] {
            tester.input("clicks", codec()?).send("me", Click { count })?;
        }
        assert_eq!(tester.table("sums", codec()?).get("me")?, Some(Click { count: 3 }));
        assert_eq!(tester.output("clicks", codec()?).read()?.len(), 2);
        Ok(())
    }

    #[test]
    fn a_registry_in_memory_serves_a_group_and_the_tester() -> Done {
        sums(&SchemaRegistry::in_memory(), &Tester::new())
    }

    #[test]
    fn in_real_time_one_that_is_asked_by_http_does_too() -> Done {
        sums(&SchemaRegistry::new(&FakeRegistry::start().url)?, &Tester::in_real_time(1))
    }

    /// As Confluent's: an id belongs to a schema, and `auto_register(false)` finds only what is there.
    #[tokio::test]
    async fn ids_of_the_registry_in_memory_belong_to_schemas() -> Done {
        let registry = SchemaRegistry::in_memory();
        let (one, two) = (Avro::<Click>::new(CLICK, &registry)?, Avro::<Click>::new(CLICK, &registry)?);
        one.prepare("a").await?;
        let strict = registry.clone().auto_register(false);
        let error = Avro::<Click>::new(CLICK, &strict)?.prepare("b").await.unwrap_err();
        assert!(matches!(&error, CodecError::Invalid(what) if what.contains("subject b-value")), "{error}");
        two.prepare("b").await?;
        Avro::<Click>::new(CLICK, &strict)?.prepare("b").await?;
        let (mut a, mut b) = (Vec::new(), Vec::new());
        one.encode(&Click { count: 7 }, &mut a)?;
        two.encode(&Click { count: 7 }, &mut b)?;
        assert_eq!((&a, &a[..5]), (&b, &[0, 0, 0, 0, 1][..]));
        // Another reader has to load the schema first.
        let other = Avro::<Click>::new(CLICK, &registry)?;
        assert_eq!(other.decode(&a), Err(CodecError::NotLoaded(1)));
        other.load(1).await?;
        assert_eq!(other.decode(&a)?, Click { count: 7 });
        assert!(other.load(2).await.is_err());
        Ok(())
    }
}
