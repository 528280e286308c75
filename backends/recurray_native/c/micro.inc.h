/* A register tile of a product: TILE_ROWS rows of TILE_VECTORS vectors; included once for each size.

   c = init + a @ w over k: a[r * row + j * next], w[j * w_row + column]. Each element is summed in the order of j, whatever the
   tile, so that results don't depend on how the work is cut. */
static void MICRO_NAME(i64 k, const real *restrict a, i64 row, i64 next, const real *restrict w, i64 w_row, const real *init,
                       i64 init_row, real *c, i64 c_row) {
    Vector sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) sum[r][v] = load(init + r * init_row + v * LANES);
    for (i64 j = 0; j < k; j++, a += next, w += w_row) {
        Vector column[TILE_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) column[v] = load(w + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++) {
            Vector factor = all(a[r * row]);
#pragma GCC unroll 8
            for (int v = 0; v < TILE_VECTORS; v++) sum[r][v] += column[v] * factor;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) store(c + r * c_row + v * LANES, sum[r][v]);
}
#undef MICRO_NAME
#undef TILE_ROWS
#undef TILE_VECTORS
