import java.nio.ByteBuffer;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** Does the work of a record and watches over it: what {@code src/measure/observer.rs} does for the arms in Rust. */
final class Observer {
    private static final int LATENCY_SUB_BITS = 6;

    private final Job job;
    private final AtomicIntegerArray running;
    private final AtomicLongArray last;
    private final AtomicLongArray[] doneOffsets;
    private final AtomicLong done = new AtomicLong();
    private final AtomicLong primed = new AtomicLong();
    private final LongAdder duplicates = new LongAdder();
    private final LongAdder orderViolations = new LongAdder();
    private final LongAdder overlaps = new LongAdder();
    private final LongAdder attempts = new LongAdder();
    private final LongAdder attemptNanos = new LongAdder();
    private final AtomicLongArray latency = new AtomicLongArray(64 * 31);
    private final AtomicLong latencyMax = new AtomicLong();
    private final AtomicBoolean began = new AtomicBoolean();
    private volatile long firstNanos;
    private volatile long lastNanos;
    private volatile boolean cut;

    Observer(Job job) {
        this.job = job;
        running = new AtomicIntegerArray((int) job.keys());
        last = new AtomicLongArray((int) job.keys());
        for (int key = 0; key < job.keys(); key++) last.set(key, -1);
        int words = (int) ((job.records() + job.primers()) / 64 + 1);
        doneOffsets = new AtomicLongArray[Math.min(job.partitions(), 64)];
        for (int partition = 0; partition < doneOffsets.length; partition++) doneOffsets[partition] = new AtomicLongArray(words);
    }

    /** One attempt; false if it failed and is to be made again. */
    boolean attempt(ConsumerRecord<byte[], byte[]> record, int attempt) {
        if (job.primers() > 0 && record.offset() == 0) {
            if (primed.incrementAndGet() == job.primers()) {
                System.out.println("ready");
                System.out.flush();
            }
            return true;
        }
        if (!began.get() && began.compareAndSet(false, true)) firstNanos = System.nanoTime();
        long key = record.key() == null ? -1 : ByteBuffer.wrap(record.key()).getLong();
        boolean watched = key >= 0 && key < running.length();
        if (watched) {
            if (running.getAndIncrement((int) key) > 0) overlaps.increment();
            if (last.getAndSet((int) key, record.offset()) > record.offset()) orderViolations.increment();
        }
        boolean ok = work(record, key, attempt);
        if (watched) running.getAndDecrement((int) key);
        if (ok) finish(record, key);
        return ok;
    }

    private boolean work(ConsumerRecord<byte[], byte[]> record, long key, int attempt) {
        switch (job.kind()) {
            case "nothing" -> { }
            case "wait" -> pause(job.a());
            case "random_wait" -> pause(Long.remainderUnsigned(dice(record), job.a() + 1) * 1_000);
            case "compute" -> compute(job.a());
            case "stuck_key" -> pause(key == 0 ? job.a() : job.b());
            case "some_slow" -> pause(Long.remainderUnsigned(dice(record), job.a()) == 0 ? job.b() : job.c());
            case "some_fail" -> {
                return attempt > 1 || Long.remainderUnsigned(dice(record), job.a()) != 0;
            }
            default -> throw new IllegalArgumentException("the java arms know no work of kind " + job.kind());
        }
        return true;
    }

    private void finish(ConsumerRecord<byte[], byte[]> record, long key) {
        boolean stuck = job.kind().equals("stuck_key") && key == 0;
        long intended = record.value().length < 8 ? 0 : ByteBuffer.wrap(record.value()).getLong();
        // The first fifth is for code and connections to warm up.
        if (intended != 0 && done.get() >= job.needed() / 5 && !stuck) addLatency(Math.max(0, unixMicros() - intended));
        if (record.partition() < doneOffsets.length) {
            long bit = 1L << (record.offset() % 64);
            int word = (int) (record.offset() / 64);
            if ((doneOffsets[record.partition()].getAndAccumulate(word, bit, (old, mask) -> old | mask) & bit) != 0) {
                duplicates.increment();
                return;
            }
        }
        if (!stuck && done.incrementAndGet() == job.needed()) lastNanos = System.nanoTime();
    }

    private void pause(long micros) {
        if (micros == 0) return;
        long began = System.nanoTime();
        try {
            Thread.sleep(micros / 1_000, (int) (micros % 1_000) * 1_000);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        attempts.increment();
        attemptNanos.add(System.nanoTime() - began);
    }

    static volatile long sink;

    private static void compute(long iterations) {
        long value = 0x9E3779B97F4A7C15L;
        for (long step = 0; step < iterations; step++) {
            value ^= value << 13;
            value ^= value >>> 7;
            value ^= value << 17;
        }
        sink = value;
    }

    private static long dice(ConsumerRecord<byte[], byte[]> record) {
        long mixed = ((long) record.partition() << 48 ^ record.offset()) + 0x9E3779B97F4A7C15L;
        mixed = (mixed ^ (mixed >>> 30)) * 0xBF58476D1CE4E5B9L;
        mixed = (mixed ^ (mixed >>> 27)) * 0x94D049BB133111EBL;
        return mixed ^ (mixed >>> 31);
    }

    private static long unixMicros() {
        var now = java.time.Instant.now();
        return now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
    }

    boolean isOver() {
        if (done.get() >= job.needed()) return true;
        if (began.get() && firstNanos != 0 && System.nanoTime() - firstNanos > job.maxSeconds() * 1_000_000_000L) cut = true;
        return cut;
    }

    long done() { return done.get(); }

    boolean isComplete() { return done.get() >= job.needed(); }

    double seconds() {
        long end = lastNanos != 0 ? lastNanos : System.nanoTime();
        return began.get() ? (end - firstNanos) / 1e9 : 0;
    }

    double secondsSinceFirst() { return (System.nanoTime() - firstNanos) / 1e9; }

    long[] faults() { return new long[] {duplicates.sum(), orderViolations.sum(), overlaps.sum()}; }

    Double attemptMicros() { return attempts.sum() == 0 ? null : attemptNanos.sum() / 1e3 / attempts.sum(); }

    private void addLatency(long micros) {
        int power = Math.max(63 - Long.numberOfLeadingZeros(Math.max(1, micros)), LATENCY_SUB_BITS) - LATENCY_SUB_BITS;
        int bucket = (int) (micros >>> power) + power * 64;
        latency.getAndIncrement(Math.min(bucket, latency.length() - 1));
        latencyMax.accumulateAndGet(micros, Math::max);
    }

    /** In milliseconds; null without samples. */
    double[] latencies() {
        long total = 0;
        for (int index = 0; index < latency.length(); index++) total += latency.get(index);
        if (total == 0) return null;
        double[] fractions = {0.5, 0.99, 0.999};
        double[] found = new double[4];
        for (int which = 0; which < fractions.length; which++) {
            long rank = Math.max(1, (long) Math.ceil(total * fractions[which]));
            long seen = 0;
            for (int index = 0; index < latency.length(); index++) {
                seen += latency.get(index);
                if (seen >= rank) {
                    int power = Math.max(0, index / 64 - 1);
                    found[which] = Math.min(((long) (index - power * 64 + 1) << power) - 1, latencyMax.get()) / 1e3;
                    break;
                }
            }
        }
        found[3] = latencyMax.get() / 1e3;
        return found;
    }
}
