import java.util.Map;

/** What one run has to do; see {@code src/measure/job.rs}. */
record Job(
        String bootstrap, String topic, String group, int partitions, long records, long keys, long primers, long needed,
        int threads, long maxSeconds, String kind, long a, long b, long c) {

    static Job of(Map<String, String> given) {
        return new Job(
                given.get("bootstrap"), given.get("topic"), given.get("group"), number(given, "partitions"),
                number(given, "records"), number(given, "keys"), number(given, "primers"), number(given, "needed"),
                number(given, "threads"), number(given, "max_seconds"), given.get("kind"),
                Long.parseLong(given.get("a")), Long.parseLong(given.get("b")), Long.parseLong(given.get("c")));
    }

    private static int number(Map<String, String> given, String name) {
        return Integer.parseInt(given.get(name));
    }

    /** The same records with nothing to do, in another group: warms the code up. */
    Job warmUp(int round, long seconds) {
        return new Job(bootstrap, topic, group + "-warm-up-" + round, partitions, records, keys, 0, needed, threads,
                seconds, "nothing", 0, 0, 0);
    }
}
