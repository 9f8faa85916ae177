//! The examples of the README and of the manual's pages, compiled. They are here because they use
//! all crates.
//!
//! The test `documentation` compares this list with the pages that have examples.

macro_rules! pages {
    ($($name:ident = $page:literal;)*) => {
        $(
            #[doc = include_str!(concat!("../../", $page))]
            struct $name;
        )*
    };
}

pages! {
    Readme = "README.md";
    FirstConsumer = "docs/src/first-consumer.md";
    Producer = "docs/src/producer.md";
    Outbox = "docs/src/outbox.md";
    RequestReply = "docs/src/request-reply.md";
    Inbox = "docs/src/inbox.md";
    Testing = "docs/src/testing.md";
    ControlTopic = "docs/src/control-topic.md";
    Layers = "docs/src/layers.md";
    RetriesAndDeadLetters = "docs/src/retries-and-dead-letters.md";
    LimitsAndBackPressure = "docs/src/limits-and-back-pressure.md";
    RebalancesAndShutdown = "docs/src/rebalances-and-shutdown.md";
    MigratingFromDecaton = "docs/src/migrating-from-decaton.md";
    Security = "docs/src/security.md";
    Tracing = "docs/src/tracing.md";
    AdminApi = "docs/src/admin-api.md";
    IdempotentWrite = "docs/src/recipes/idempotent-write.md";
    Batching = "docs/src/recipes/batching.md";
    RateLimit = "docs/src/recipes/rate-limit.md";
    StaticMembership = "docs/src/recipes/static-membership.md";
    ConcurrencyAndPools = "docs/src/recipes/concurrency-and-pools.md";
    WriteADeadLetterBack = "docs/src/recipes/write-a-dead-letter-back.md";
}
