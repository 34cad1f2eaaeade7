using System.Buffers;
using Sconce.Server.Transport;

namespace Sconce.Server.Tests.Transport;

public sealed class WarmBlockPoolTests
{
    [Fact]
    public void The_block_that_was_given_back_last_comes_first()
    {
        using var pool = new WarmBlockPool(TimeProvider.System);
        var (a, b) = (pool.Rent(), pool.Rent(WarmBlockPool.BlockBytes));
        Assert.Equal((WarmBlockPool.BlockBytes, WarmBlockPool.BlockBytes), (a.Memory.Length, b.Memory.Length));
        Assert.False(a.Memory.Span.Overlaps(b.Memory.Span));
        a.Dispose();
        b.Dispose();
        Assert.Same(b, pool.Rent());
        Assert.Same(a, pool.Rent());
        Assert.Equal(0, pool.Free);
        Assert.Throws<ArgumentOutOfRangeException>(() => pool.Rent(WarmBlockPool.BlockBytes + 1));
    }

    [Fact]
    public void A_block_that_is_given_back_twice_is_lent_once()
    {
        using var pool = new WarmBlockPool(TimeProvider.System);
        var block = pool.Rent();
        block.Dispose();
        block.Dispose();
        Assert.Equal(1, pool.Free);
        Assert.NotSame(pool.Rent(), pool.Rent());
    }

    [Fact]
    public void Blocks_that_nobody_used_for_a_while_go()
    {
        using var pool = new WarmBlockPool(TimeProvider.System);
        Array.ForEach(Lend(pool, 100), block => block.Dispose());
        Assert.Equal(100, pool.Free);

        // All were in use since the last time.
        pool.Trim();
        Assert.Equal(100, pool.Free);
        Array.ForEach(Lend(pool, 10), block => block.Dispose());
        pool.Trim();
        Assert.Equal(10, pool.Free);
        pool.Trim();
        Assert.Equal(0, pool.Free);
    }

    [Fact]
    public void What_comes_back_after_the_end_is_let_go()
    {
        var pool = new WarmBlockPool(TimeProvider.System);
        var block = pool.Rent();
        pool.Dispose();
        block.Dispose();
        Assert.Equal(0, pool.Free);
        Assert.Throws<ObjectDisposedException>(() => pool.Rent());
    }

    [Fact]
    public void No_two_have_a_block_at_once()
    {
        using var pool = new WarmBlockPool(TimeProvider.System);
        Parallel.For(0, 8, new ParallelOptions { MaxDegreeOfParallelism = 8 }, thread =>
        {
            for (var i = 0; i < 5_000; i++)
            {
                var blocks = Lend(pool, 3);
                foreach (var block in blocks)
                {
                    block.Memory.Span.Fill((byte)thread);
                }

                foreach (var block in blocks)
                {
                    Assert.False(block.Memory.Span.ContainsAnyExcept((byte)thread));
                    block.Dispose();
                }

                if (i % 100 == 0)
                {
                    pool.Trim();
                }
            }
        });
    }

    private static IMemoryOwner<byte>[] Lend(WarmBlockPool pool, int count) => [.. Enumerable.Range(0, count).Select(_ => pool.Rent())];
}
