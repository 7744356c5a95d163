// Goka as an engine of the comparison: its arguments and lines are those of bench/src/engine/mod.rs.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

var (
	brokers    = flag.String("brokers", "", "")
	topology   = flag.String("topology", "", "")
	group      = flag.String("group", "", "")
	delivery   = flag.String("delivery", "at-least-once", "")
	_          = flag.String("store", "default", "")
	state      = flag.String("state", "", "")
	inputs     = flag.String("inputs", "", "")
	output     = flag.String("output", "", "")
	records    = flag.Int64("records", 0, "")
	_          = flag.Int64("results", 0, "")
	partitions = flag.Int64("partitions", 4, "")
	commitMs   = flag.Int64("commit-ms", 0, "")
	lingerMs   = flag.Int64("linger-ms", 0, "")
	memoryMb   = flag.Int64("memory-mb", 0, "")
)

var saying sync.Mutex

func say(line string) {
	saying.Lock()
	defer saying.Unlock()
	fmt.Println(line)
}

func setting(name string, value any) { say(fmt.Sprintf("setting %s=%v", name, value)) }

var seen atomic.Int64

// record counts a record, and asks for the end after the last one.
func record(end func()) {
	n := seen.Add(1)
	if n == 1 {
		say("first")
	}
	if n%1_000_000 == 0 {
		say(fmt.Sprintf("at %d", n))
	}
	if n == *records {
		say("seen")
		end()
	}
}

func graph(end func()) *goka.GroupGraph {
	in := strings.Split(*inputs, ",")
	counts, bytes := new(codec.Int64), new(codec.Bytes)
	count := func(ctx goka.Context, value any) {
		n, _ := ctx.Value().(int64)
		ctx.SetValue(n + 1)
		if len(in) == 1 && *output != "" {
			ctx.Emit(goka.Stream(*output), ctx.Key(), value)
		}
		record(end)
	}
	edges := []goka.Edge{}
	switch *topology {
	case "count":
		edges = append(edges, goka.Input(goka.Stream(in[0]), bytes, count), goka.Persist(counts))
		if len(in) > 1 {
			edges = append(edges, goka.Output(goka.Stream(*output), counts), goka.Input(goka.Stream(in[1]), bytes, func(ctx goka.Context, _ any) {
				n, _ := ctx.Value().(int64)
				ctx.Emit(goka.Stream(*output), ctx.Key(), n)
				record(end)
			}))
		} else if *output != "" {
			edges = append(edges, goka.Output(goka.Stream(*output), bytes))
		}
	case "filter":
		edges = append(edges, goka.Output(goka.Stream(*output), counts), goka.Input(goka.Stream(in[0]), counts, func(ctx goka.Context, value any) {
			if n := value.(int64); n%2 == 0 {
				ctx.Emit(goka.Stream(*output), ctx.Key(), n)
			}
			record(end)
		}))
	case "table":
		edges = append(edges, goka.Persist(bytes), goka.Output(goka.Stream(*output), bytes),
			goka.Input(goka.Stream(in[0]), bytes, func(ctx goka.Context, value any) {
				ctx.SetValue(value)
				record(end)
			}),
			goka.Input(goka.Stream(in[1]), bytes, func(ctx goka.Context, _ any) {
				value, _ := ctx.Value().([]byte)
				ctx.Emit(goka.Stream(*output), ctx.Key(), value)
				record(end)
			}))
	default:
		log.Fatalf("Goka has no topology %s", *topology)
	}
	return goka.DefineGroup(goka.Group(*group), edges...)
}

func main() {
	flag.Parse()
	go func() {
		// Whoever started this has ended, or wants no more of it.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if *delivery != "at-least-once" {
		log.Fatal("Goka delivers at least once")
	}
	config := goka.DefaultConfig()
	config.Version = sarama.V3_6_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Interval = time.Duration(*commitMs) * time.Millisecond
	config.Consumer.Fetch.Default = 4 << 20
	config.ChannelBufferSize = 10_000
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = sarama.CompressionNone
	config.Producer.Flush.Frequency = time.Duration(*lingerMs) * time.Millisecond
	config.Producer.Flush.Bytes = 256 << 10
	goka.ReplaceGlobalConfig(config)
	tables := goka.NewTopicManagerConfig()
	tables.Table.Replication = 1

	// Half of the memory is for the stores, all of them together, the other half for everything else.
	each := int(*memoryMb << 20 / 2 / *partitions)
	stores := storage.BuilderWithOptions(*state, &opt.Options{
		BlockCacheCapacity: each / 2, WriteBuffer: each / 4, Compression: opt.NoCompression,
	})
	ctx, stop := context.WithCancel(context.Background())
	processor, err := goka.NewProcessor(strings.Split(*brokers, ","), graph(stop),
		goka.WithStorageBuilder(stores),
		goka.WithTopicManagerBuilder(goka.TopicManagerBuilderWithTopicManagerConfig(tables)),
		goka.WithPartitionChannelSize(10_000),
		goka.WithHasher(murmur2))
	if err != nil {
		log.Fatal(err)
	}
	setting("version", version())
	setting("RequiredAcks", "all")
	setting("Compression", "none")
	setting("commit interval", fmt.Sprintf("%d ms", *commitMs))
	setting("Flush.Frequency", fmt.Sprintf("%d ms", *lingerMs))
	setting("Flush.Bytes", config.Producer.Flush.Bytes)
	setting("Fetch.Default", config.Consumer.Fetch.Default)
	setting("ChannelBufferSize", config.ChannelBufferSize)
	setting("PartitionChannelSize", 10_000)
	setting("LevelDB block cache of each partition", strconv.Itoa(each>>21)+" MiB")
	setting("LevelDB write buffer of each partition", strconv.Itoa(each>>22)+" MiB")
	ended := make(chan error, 1)
	go func() { ended <- processor.Run(ctx) }()
	go func() {
		if processor.WaitForReadyContext(ctx) == nil {
			say("ready")
		}
	}()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	say("done")
	select {}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "?"
	}
	for _, module := range info.Deps {
		if module.Path == "github.com/lovoo/goka" {
			return module.Version
		}
	}
	return "?"
}
