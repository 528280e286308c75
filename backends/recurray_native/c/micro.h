/* All register tiles up to ROWS x VECTORS, in the table `micro` by rows and vectors less one. */
#define MICRO_NAME micro_1_1
#define TILE_ROWS 1
#define TILE_VECTORS 1
#include "micro.inc.h"
#define MICRO_NAME micro_1_2
#define TILE_ROWS 1
#define TILE_VECTORS 2
#include "micro.inc.h"
#if VECTORS >= 3
#define MICRO_NAME micro_1_3
#define TILE_ROWS 1
#define TILE_VECTORS 3
#include "micro.inc.h"
#define MICRO_NAME micro_1_4
#define TILE_ROWS 1
#define TILE_VECTORS 4
#include "micro.inc.h"
#endif
#define MICRO_NAME micro_2_1
#define TILE_ROWS 2
#define TILE_VECTORS 1
#include "micro.inc.h"
#define MICRO_NAME micro_2_2
#define TILE_ROWS 2
#define TILE_VECTORS 2
#include "micro.inc.h"
#if VECTORS >= 3
#define MICRO_NAME micro_2_3
#define TILE_ROWS 2
#define TILE_VECTORS 3
#include "micro.inc.h"
#define MICRO_NAME micro_2_4
#define TILE_ROWS 2
#define TILE_VECTORS 4
#include "micro.inc.h"
#endif
#define MICRO_NAME micro_3_1
#define TILE_ROWS 3
#define TILE_VECTORS 1
#include "micro.inc.h"
#define MICRO_NAME micro_3_2
#define TILE_ROWS 3
#define TILE_VECTORS 2
#include "micro.inc.h"
#if VECTORS >= 3
#define MICRO_NAME micro_3_3
#define TILE_ROWS 3
#define TILE_VECTORS 3
#include "micro.inc.h"
#define MICRO_NAME micro_3_4
#define TILE_ROWS 3
#define TILE_VECTORS 4
#include "micro.inc.h"
#endif
#define MICRO_NAME micro_4_1
#define TILE_ROWS 4
#define TILE_VECTORS 1
#include "micro.inc.h"
#define MICRO_NAME micro_4_2
#define TILE_ROWS 4
#define TILE_VECTORS 2
#include "micro.inc.h"
#if VECTORS >= 3
#define MICRO_NAME micro_4_3
#define TILE_ROWS 4
#define TILE_VECTORS 3
#include "micro.inc.h"
#define MICRO_NAME micro_4_4
#define TILE_ROWS 4
#define TILE_VECTORS 4
#include "micro.inc.h"
#endif
#if ROWS >= 5
#define MICRO_NAME micro_5_1
#define TILE_ROWS 5
#define TILE_VECTORS 1
#include "micro.inc.h"
#define MICRO_NAME micro_5_2
#define TILE_ROWS 5
#define TILE_VECTORS 2
#include "micro.inc.h"
#if VECTORS >= 3
#define MICRO_NAME micro_5_3
#define TILE_ROWS 5
#define TILE_VECTORS 3
#include "micro.inc.h"
#define MICRO_NAME micro_5_4
#define TILE_ROWS 5
#define TILE_VECTORS 4
#include "micro.inc.h"
#endif
#endif
#if ROWS >= 6
#define MICRO_NAME micro_6_1
#define TILE_ROWS 6
#define TILE_VECTORS 1
#include "micro.inc.h"
#define MICRO_NAME micro_6_2
#define TILE_ROWS 6
#define TILE_VECTORS 2
#include "micro.inc.h"
#if VECTORS >= 3
#define MICRO_NAME micro_6_3
#define TILE_ROWS 6
#define TILE_VECTORS 3
#include "micro.inc.h"
#define MICRO_NAME micro_6_4
#define TILE_ROWS 6
#define TILE_VECTORS 4
#include "micro.inc.h"
#endif
#endif

typedef void (*Micro)(i64, const real *, i64, i64, const real *, i64, const real *, i64, real *, i64);

static const Micro micro[ROWS][VECTORS] = {
#if VECTORS == 4
#define OF_ROWS(r) {micro_##r##_1, micro_##r##_2, micro_##r##_3, micro_##r##_4}
#else
#define OF_ROWS(r) {micro_##r##_1, micro_##r##_2}
#endif
    OF_ROWS(1), OF_ROWS(2), OF_ROWS(3), OF_ROWS(4),
#if ROWS == 6
    OF_ROWS(5), OF_ROWS(6),
#endif
};
