package bench;

import java.util.Map;

import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.Cache;
import org.rocksdb.LRUCache;
import org.rocksdb.Options;
import org.rocksdb.WriteBufferManager;

/** One bound for the block caches and write buffers of all RocksDB stores, as Kafka Streams' own documents advise. */
public final class Memory implements RocksDBConfigSetter {
    private static Cache cache;
    private static WriteBufferManager buffers;

    static void limit(long bytes) {
        org.rocksdb.RocksDB.loadLibrary();
        cache = new LRUCache(bytes, -1, false, 0.1);
        buffers = new WriteBufferManager(bytes / 2, cache);
    }

    @Override
    public void setConfig(String store, Options options, Map<String, Object> configs) {
        BlockBasedTableConfig table = (BlockBasedTableConfig) options.tableFormatConfig();
        table.setBlockCache(cache);
        table.setCacheIndexAndFilterBlocks(true);
        table.setCacheIndexAndFilterBlocksWithHighPriority(true);
        table.setPinTopLevelIndexAndFilter(true);
        options.setWriteBufferManager(buffers);
        options.setTableFormatConfig(table);
    }

    @Override
    public void close(String store, Options options) {
        // Shared by all stores: it lives as long as the process.
    }
}
