/* Operations that are registered by links. */
#include "ops.h"

OPS(ops_linked, ".struct_ops.link", "bpf_linked", 0);
OPS(ops_ready, ".struct_ops.link", "bpf_ready", 2);
