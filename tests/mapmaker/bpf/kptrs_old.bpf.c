/* Before Linux 6.4, what nobody holds a reference to had the name that others have now. */
#define UNTRUSTED "kptr"
#include "kptrs.h"
