using System.IO.Hashing;
using Sconce.Engine;
using Sconce.Server.Streams;

namespace Sconce.Server.Tests.Streams;

public sealed class StateFramingTests
{
    private static readonly byte[] Bytes = [1, 2, 3, 4, 5, 6, 7, 8];

    [Fact]
    public void Accept_all_bytes_in_order_is_complete_and_digested()
    {
        // A tensor without elements sends no chunk, wherever it stands.
        var framing = new StateFraming([0, 5, 0, 3, 0]);

        framing.Accept(1, 0, Bytes.AsSpan(0, 2));
        framing.Accept(1, 2, Bytes.AsSpan(2, 3));
        Assert.False(framing.IsComplete);
        framing.Accept(3, 0, Bytes.AsSpan(5, 3));
        framing.End(XxHash3.HashToUInt64(Bytes));

        Assert.True(framing.IsComplete);
    }

    [Fact]
    public void End_of_nothing_is_complete()
    {
        var framing = new StateFraming([]);

        framing.End(XxHash3.HashToUInt64([]));

        Assert.True(framing.IsComplete);
    }

    [Theory]
    [InlineData(0, 3, "tensor 0 offset 3 came; expected tensor 0 offset 2")] // gap
    [InlineData(0, 0, "tensor 0 offset 0 came; expected tensor 0 offset 2")] // repeat
    [InlineData(1, 0, "tensor 1 offset 0 came; expected tensor 0 offset 2")] // next tensor too early
    [InlineData(4_000_000_000, 2, "tensor 4000000000 offset 2 came")]
    [InlineData(0, ulong.MaxValue, "offset 18446744073709551615 came")]
    public void Accept_out_of_order_names_the_offset(uint entry, ulong offset, string expected)
    {
        var framing = new StateFraming([4, 4]);
        framing.Accept(0, 0, Bytes.AsSpan(0, 2));

        Assert.Contains(expected, Refused(() => framing.Accept(entry, offset, Bytes.AsSpan(0, 1))), StringComparison.Ordinal);
    }

    [Fact]
    public void Accept_more_than_declared_says_what_is_missing()
    {
        var framing = new StateFraming([4]);

        Assert.Contains("has 5 bytes at tensor 0 offset 0, but only 4 of its 4 bytes are missing", Refused(() => framing.Accept(0, 0, Bytes.AsSpan(0, 5))), StringComparison.Ordinal);
    }

    [Fact]
    public void Accept_after_the_last_byte_is_refused()
    {
        var framing = new StateFraming([1]);
        framing.Accept(0, 0, Bytes.AsSpan(0, 1));

        Assert.Contains("after the last byte", Refused(() => framing.Accept(0, 1, Bytes.AsSpan(0, 1))), StringComparison.Ordinal);
    }

    [Fact]
    public void Accept_empty_chunk_is_refused() => Assert.Contains("is empty at tensor 0 offset 0", Refused(() => new StateFraming([4]).Accept(0, 0, [])), StringComparison.Ordinal);

    [Fact]
    public void End_with_bytes_missing_names_the_offset()
    {
        var framing = new StateFraming([4, 4]);
        framing.Accept(0, 0, Bytes.AsSpan(0, 4));

        Assert.Contains("came at tensor 1 offset 0; 4 bytes of it are missing", Refused(() => framing.End(null)), StringComparison.Ordinal);
        Assert.Contains("ended at tensor 1 offset 0", framing.Truncated().Message, StringComparison.Ordinal);
    }

    [Fact]
    public void End_with_another_digest_names_both()
    {
        var framing = new StateFraming([8]);
        framing.Accept(0, 0, Bytes);

        var error = Assert.Throws<EngineException>(() => framing.End(42));

        Assert.Equal((EngineError.DataLoss, "DIGEST_MISMATCH"), (error.Error, error.Reason));
        Assert.Contains($"{XxHash3.HashToUInt64(Bytes):x16}", error.Message, StringComparison.Ordinal);
        Assert.Contains($"{42:x16}", error.Message, StringComparison.Ordinal);
    }

    private static string Refused(Action action)
    {
        var error = Assert.Throws<EngineException>(action);
        Assert.Equal((EngineError.InvalidArgument, "BAD_STREAM"), (error.Error, error.Reason));
        return error.Message;
    }
}
