// A job as it is written down for the migrated that comes after us.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"
#include "migrate/daemon_programs.h"
#include "migrate/jobs.h"
#include "migrate/record.pb.h"

namespace drover {

std::string encode_job(const Job& job);
/// An error if it is not the record of a job.
Result<Job> decode_job(std::string_view record);

record::Program to_record(const ProgramIdentity& identity);
ProgramIdentity from_record(const record::Program& program);

}  // namespace drover
