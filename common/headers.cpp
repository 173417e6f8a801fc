// Compiles the header-only parts by themselves.
#include "common/foreign_address.h"
#include "common/owned_fd.h"
#include "common/result.h"
#include "common/wire.h"
