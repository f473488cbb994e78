//! What of requests is recorded, and where: upstream's options.

use std::path::PathBuf;

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct AuditArguments {
    /// Which requests are recorded: a Policy of audit.k8s.io/v1.
    #[arg(long, requires = "audit_log_path", value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where they are recorded; - is standard output.
    #[arg(long, requires = "audit_policy_file", value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    /// Megabytes of the log before it is put aside; 0: never [default: 100].
    #[arg(long, requires = "audit_log_path", value_name = "MB")]
    audit_log_maxsize: Option<u32>,
    /// Logs put aside that are kept; 0: all [default: 100].
    #[arg(long, requires = "audit_log_path", value_name = "N")]
    audit_log_maxbackup: Option<u32>,
    /// Days that they are kept; 0: for ever [default: 366].
    #[arg(long, requires = "audit_log_path", value_name = "DAYS")]
    audit_log_maxage: Option<u32>,
}

impl AuditArguments {
    pub(super) fn given(self) -> Option<apiserver::AuditConfig> {
        Some(apiserver::AuditConfig {
            policy_file: self.audit_policy_file?,
            log_path: self.audit_log_path?,
            max_size: self.audit_log_maxsize.unwrap_or(100),
            max_backup: self.audit_log_maxbackup.unwrap_or(100),
            max_age: self.audit_log_maxage.unwrap_or(366),
        })
    }
}
