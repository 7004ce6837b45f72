/* Operations that are registered by writing them into their map. */
#include "ops.h"

OPS(ops_used, ".struct_ops", "bpf_used", 1);
OPS(ops_init, ".struct_ops", "bpf_init", 0);
