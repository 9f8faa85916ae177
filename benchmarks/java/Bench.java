import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** The arms in Java. Prints "ready" when a paced topic is being read, and the sample as JSON in the end. */
public final class Bench {
    private static final long PATIENCE_NANOS = 15_000_000_000L;
    private static final int RETRY_MILLIS = 10;

    public static void main(String[] arguments) throws Exception {
        Map<String, String> given = new HashMap<>();
        for (int index = 1; index < arguments.length; index++) {
            String[] pair = arguments[index].split("=", 2);
            given.put(pair[0], pair[1]);
        }
        Job job = Job.of(given);
        boolean plain = arguments[0].equals("java-loop");
        // Paced topics are empty before the run; there the first fifth of the records is not counted.
        if (job.primers() == 0) {
            for (int round = 1; round <= 2; round++) {
                Job warmUp = job.warmUp(round, 5);
                if (plain) loop(warmUp, false); else parallel(warmUp, false);
            }
            System.gc();
        }
        System.out.println(plain ? loop(job, true) : parallel(job, true));
        System.out.flush();
        // The Parallel Consumer's threads wait for what is stuck.
        Runtime.getRuntime().halt(0);
    }

    private static Properties settings(Job job, boolean commits) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", job.bootstrap());
        settings.put("group.id", job.group());
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", Boolean.toString(commits));
        settings.put("auto.commit.interval.ms", "1000");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        return settings;
    }

    private static String loop(Job job, boolean measured) throws Exception {
        long cpuBefore = cpuNanos();
        Observer observer = new Observer(job);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings(job, true))) {
            consumer.subscribe(List.of(job.topic()));
            while (!observer.isOver()) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    int attempt = 1;
                    while (!observer.attempt(record, attempt++)) Thread.sleep(RETRY_MILLIS);
                    if (job.kind().equals("nothing") ? observer.isComplete() : observer.isOver()) break;
                }
            }
            return measured ? sample(job, observer, cpuBefore, "1", () -> consumer.poll(Duration.ZERO)) : "";
        }
    }

    private static String parallel(Job job, boolean measured) throws Exception {
        long cpuBefore = cpuNanos();
        Observer observer = new Observer(job);
        var consumer = new KafkaConsumer<byte[], byte[]>(settings(job, false));
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
                .ordering(ProcessingOrder.KEY)
                .maxConcurrency(job.threads())
                .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
                .commitInterval(Duration.ofSeconds(1))
                .defaultMessageRetryDelay(Duration.ofMillis(RETRY_MILLIS))
                .consumer(consumer)
                .build();
        var processor = ParallelStreamProcessor.<byte[], byte[]>createEosStreamProcessor(options);
        processor.subscribe(List.of(job.topic()));
        processor.poll(context -> {
            int attempt = context.getSingleRecord().getNumberOfFailedAttempts() + 1;
            if (!observer.attempt(context.getSingleConsumerRecord(), attempt)) {
                throw new IllegalStateException("the benchmark says so");
            }
        });
        while (!observer.isOver()) Thread.sleep(1);
        String sample = measured ? sample(job, observer, cpuBefore, job.threads() + " in all", () -> {}) : "";
        if (!measured) processor.closeDontDrainFirst(Duration.ofSeconds(5));
        return sample;
    }

    private interface Between {
        void run();
    }

    private static String sample(Job job, Observer observer, long cpuBefore, String inFlight, Between between) throws Exception {
        double cpuMicros = (cpuNanos() - cpuBefore) / 1e3 / Math.max(1, observer.done());
        double seconds = observer.seconds();
        long[] faults = observer.faults();
        double[] latency = observer.latencies();
        int threads = ManagementFactory.getThreadMXBean().getThreadCount();
        Double committed = observer.isComplete() && job.needed() == job.records() ? committed(job, observer, between) : null;
        return String.format(Locale.ROOT,
                "{\"records\":%d,\"complete\":%b,\"seconds\":%f,\"rate\":%f,\"cpu_micros\":%f,\"peak_mib\":%f,\"threads\":%d,"
                        + "\"in_flight\":\"%s\",\"attempt_micros\":%s,\"latency\":%s,\"committed_seconds\":%s,"
                        + "\"duplicates\":%d,\"order_violations\":%d,\"overlaps\":%d,\"pending_mib\":null}",
                observer.done(), observer.isComplete(), seconds, observer.done() / Math.max(seconds, 1e-9), cpuMicros,
                peakMebibytes(), threads, inFlight, observer.attemptMicros(),
                latency == null ? "null" : String.format(Locale.ROOT, "{\"p50\":%f,\"p99\":%f,\"p999\":%f,\"max\":%f}",
                        latency[0], latency[1], latency[2], latency[3]),
                committed, faults[0], faults[1], faults[2]);
    }

    /** When the broker has the commits of all records; null if it does not come to that. */
    private static Double committed(Job job, Observer observer, Between between) throws Exception {
        long deadline = System.nanoTime() + PATIENCE_NANOS;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", job.bootstrap()))) {
            while (System.nanoTime() < deadline) {
                between.run();
                var offsets = admin.listConsumerGroupOffsets(job.group()).partitionsToOffsetAndMetadata().get();
                long sum = offsets.values().stream().filter(it -> it != null).mapToLong(it -> it.offset()).sum();
                if (sum >= job.records() + job.primers()) return observer.secondsSinceFirst();
                Thread.sleep(20);
            }
        }
        return null;
    }

    private static long cpuNanos() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    private static double peakMebibytes() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) return Long.parseLong(line.replaceAll("\\D", "")) / 1024.0;
        }
        return 0;
    }
}
