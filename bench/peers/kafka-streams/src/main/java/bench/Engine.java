package bench;

import java.io.IOException;
import java.io.InputStream;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;

import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;

/** Kafka Streams as an engine of the comparison: its arguments and lines are those of bench/src/engine/mod.rs. */
public final class Engine {
    private Engine() {}

    public static void main(String[] words) throws Exception {
        Map<String, String> job = new HashMap<>();
        for (int i = 0; i + 1 < words.length; i += 2) {
            job.put(words[i].substring(2), words[i + 1]);
        }
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    // Nothing is expected but the end.
                }
            } catch (IOException e) {
                // So it has ended, too.
            }
            Runtime.getRuntime().halt(0);
        });
        watch.setDaemon(true);
        watch.start();

        long memory = Long.parseLong(job.get("memory-mb")) << 20;
        Memory.limit(memory / 2);
        Properties settings = settings(job);
        Progress progress = new Progress(Long.parseLong(job.get("records")), Long.parseLong(job.get("results")));
        Topology topology = Topologies.build(job, progress, settings);
        settings.stringPropertyNames().stream().sorted().filter(Engine::isShown)
            .forEach(name -> say("setting " + name + "=" + settings.getProperty(name)));
        say("setting heap=" + (Runtime.getRuntime().maxMemory() >> 20) + " MiB");
        say("setting RocksDB's cache and write buffers=" + (memory / 2 >> 20) + " MiB in all");
        say("setting version=" + version());

        KafkaStreams streams = new KafkaStreams(topology, settings);
        CountDownLatch failed = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        boolean[] ready = {false};
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING && !ready[0]) {
                ready[0] = true;
                say("ready");
            }
        });
        streams.start();
        progress.end.await();
        // It commits, and leaves its group, so that the next start need not wait for a session to time out.
        if (!streams.close(CloseOptions.timeout(Duration.ofSeconds(60))
            .withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP))) {
            throw new IllegalStateException("it did not close");
        }
        say("done");
        failed.await();
    }

    private static boolean isShown(String name) {
        return !name.equals("bootstrap.servers") && !name.equals("application.id") && !name.equals("state.dir");
    }

    private static String version() throws IOException {
        Properties about = new Properties();
        try (InputStream in = KafkaStreams.class.getResourceAsStream("/kafka/kafka-streams-version.properties")) {
            about.load(in);
        }
        return about.getProperty("version");
    }

    private static Properties settings(Map<String, String> job) {
        Properties p = new Properties();
        boolean exactlyOnce = job.get("delivery").equals("exactly-once");
        p.setProperty(StreamsConfig.APPLICATION_ID_CONFIG, job.get("group"));
        p.setProperty(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.get("brokers"));
        p.setProperty(StreamsConfig.STATE_DIR_CONFIG, job.get("state"));
        p.setProperty(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class.getName());
        p.setProperty(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class.getName());
        p.setProperty(StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
            exactlyOnce ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        p.setProperty(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, job.get("commit-ms"));
        p.setProperty(StreamsConfig.NUM_STREAM_THREADS_CONFIG,
            Integer.toString(Runtime.getRuntime().availableProcessors()));
        p.setProperty(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
        p.setProperty(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
        p.setProperty(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, Long.toString(64L << 20));
        p.setProperty(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, Memory.class.getName());
        if (job.get("store").equals("transactional")) {
            p.setProperty(StreamsConfig.TRANSACTIONAL_STATE_STORES_CONFIG, "true");
        }
        // What the peers' clients have, too.
        p.setProperty(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), job.get("linger-ms"));
        p.setProperty(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), Integer.toString(1 << 18));
        p.setProperty(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), Integer.toString(64 << 20));
        p.setProperty(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), "10000");
        p.setProperty(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG),
            Integer.toString(4 << 20));
        p.setProperty(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        return p;
    }

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    /** How far a run has come. */
    static final class Progress {
        final CountDownLatch end = new CountDownLatch(1);
        private final long records;
        private final long results;
        private final AtomicLong seen = new AtomicLong();
        private final AtomicLong given = new AtomicLong();

        Progress(long records, long results) {
            this.records = records;
            this.results = results;
        }

        /** Counts a record. */
        void record() {
            long n = seen.incrementAndGet();
            if (n == 1) {
                say("first");
            }
            if (n % 1_000_000 == 0) {
                say("at " + n);
            }
            if (n == records) {
                say("seen");
                if (given.get() >= results) {
                    end.countDown();
                }
            }
        }

        /** Counts a result. */
        void result() {
            if (given.incrementAndGet() == results && seen.get() >= records) {
                end.countDown();
            }
        }
    }
}
