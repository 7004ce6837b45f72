/* Ring buffers that overwrite the oldest records. */
#define RINGS over_rings
#include "rings.h"
