//! `dt_meta`: Decaton's task metadata.

/// What a producer says about a task, in Decaton's `dt_meta` header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskMetadata {
    /// When the task was made, in milliseconds since the Unix epoch.
    pub timestamp_millis: i64,
    /// Which application made it.
    pub source_application_id: String,
    /// Which instance of it.
    pub source_instance_id: String,
    /// How often it went through a retry topic.
    pub retry_count: i64,
    /// Not to be processed before this time, in milliseconds since the Unix epoch; 0 is at once.
    pub scheduled_time_millis: i64,
}
