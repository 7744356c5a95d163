package bench;

import java.time.Duration;
import java.util.Map;
import java.util.Properties;

import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/** What the engine does with its inputs. */
final class Topologies {
    private static final Serde<String> TEXT = Serdes.String();
    private static final Serde<Long> NUMBER = Serdes.Long();
    private static final Duration WINDOW = Duration.ofMillis(10_000);
    private static final Duration WITHIN = Duration.ofMillis(5_000);
    private static final Duration GRACE = Duration.ofMillis(1_000);
    private static final String MOVES_TIME = "-1";
    private static final String MOVES_TIME_KEY = "time";

    private Topologies() {}

    static Topology build(Map<String, String> job, Engine.Progress progress, Properties settings) {
        StreamsBuilder builder = new StreamsBuilder();
        String[] inputs = job.get("inputs").split(",");
        String output = job.get("output");
        KStream<String, String> first = builder.stream(inputs[0], Consumed.with(TEXT, TEXT));
        switch (job.get("topology")) {
            case "count" -> count(builder, first, inputs, output, progress);
            case "filter" -> first.peek((k, v) -> progress.record())
                .filter((k, v) -> Long.parseLong(v) % 2 == 0).to(output, Produced.with(TEXT, TEXT));
            case "window" -> window(first, output, progress);
            case "join" -> join(first, builder.stream(inputs[1], Consumed.with(TEXT, TEXT)), output, progress);
            case "table" -> table(builder, first, inputs, output, progress);
            default -> throw new IllegalArgumentException("no topology " + job.get("topology"));
        }
        return builder.build(settings);
    }

    private static void count(StreamsBuilder builder, KStream<String, String> first, String[] inputs, String output,
                              Engine.Progress progress) {
        KStream<String, String> counted = first.peek((k, v) -> progress.record());
        Materialized<String, Long, KeyValueStore<Bytes, byte[]>> store =
            Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("table").withKeySerde(TEXT).withValueSerde(NUMBER);
        KTable<String, Long> counts = counted.groupByKey(Grouped.with(TEXT, TEXT)).count(store);
        if (inputs.length > 1) {
            builder.stream(inputs[1], Consumed.with(TEXT, TEXT)).peek((k, v) -> progress.record())
                .leftJoin(counts, (probe, n) -> n == null ? 0L : n, Joined.with(TEXT, TEXT, NUMBER))
                .to(output, Produced.with(TEXT, NUMBER));
        } else if (output != null) {
            counted.to(output, Produced.with(TEXT, TEXT));
        }
    }

    private static void window(KStream<String, String> first, String output, Engine.Progress progress) {
        Materialized<String, Long, WindowStore<Bytes, byte[]>> store =
            Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("windows").withKeySerde(TEXT).withValueSerde(NUMBER)
                .withRetention(WINDOW.plus(GRACE));
        first.peek((k, v) -> {
            if (!v.equals(MOVES_TIME)) {
                progress.record();
            }
        })
            .groupByKey(Grouped.with(TEXT, TEXT))
            .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE))
            .count(store)
            // EmitStrategy.onWindowClose() looks through every minute since 1970 when the first window closes.
            .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
            .toStream((Windowed<String> window, Long n) -> window)
            .map((window, n) -> {
                if (!window.key().equals(MOVES_TIME_KEY)) {
                    progress.result();
                }
                return KeyValue.pair(window.key(), window.window().start() + " " + n);
            })
            .to(output, Produced.with(TEXT, TEXT));
    }

    private static void join(KStream<String, String> left, KStream<String, String> right, String output,
                             Engine.Progress progress) {
        left.leftJoin(right, (l, r) -> {
            long number = Long.parseLong(l) + 1;
            if (r != null) {
                progress.record();
            }
            if (!l.equals(MOVES_TIME)) {
                progress.result();
            }
            return Long.toString(r == null ? -number : number);
        }, JoinWindows.ofTimeDifferenceAndGrace(WITHIN, GRACE), StreamJoined.with(TEXT, TEXT, TEXT).withStoreName("pairs"))
            .to(output, Produced.with(TEXT, TEXT));
    }

    private static void table(StreamsBuilder builder, KStream<String, String> first, String[] inputs, String output,
                              Engine.Progress progress) {
        Materialized<String, String, KeyValueStore<Bytes, byte[]>> store =
            Materialized.<String, String, KeyValueStore<Bytes, byte[]>>as("table").withKeySerde(TEXT).withValueSerde(TEXT);
        // Its own changelog, as ours has: a table that is read as such would use the input in its place.
        KTable<String, String> table = first.peek((k, v) -> progress.record())
            .groupByKey(Grouped.with(TEXT, TEXT)).reduce((before, now) -> now, store);
        builder.stream(inputs[1], Consumed.with(TEXT, TEXT)).peek((k, v) -> progress.record())
            .leftJoin(table, (probe, value) -> value == null ? "" : value, Joined.with(TEXT, TEXT, TEXT))
            .to(output, Produced.with(TEXT, TEXT));
    }
}
