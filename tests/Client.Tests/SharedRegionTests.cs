using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Sconce.Client.Internal;

namespace Sconce.Client.Tests;

/// <summary>What the client makes of the answers on a socket for shared memory, and of a state dict.</summary>
public sealed class SharedRegionTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sconce-region-client-");

    private string Path => System.IO.Path.Combine(_directory.FullName, "s");

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public async Task Refusals_and_what_is_no_server_are_exceptions_of_their_kinds()
    {
        Assert.Equal("too much", (await AnsweredAsync<SconceResourceExhaustedException>(Answer(8, "too much"))).Message);
        Assert.Equal(Grpc.Core.StatusCode.PermissionDenied, (await AnsweredAsync<SconceException>(Answer(7, "not you"))).StatusCode);
        Assert.Contains("not a Sconce server's socket", (await AnsweredAsync<SconceFailedPreconditionException>(new byte[256])).Message, StringComparison.Ordinal);
        Assert.Contains("file handle did not arrive", (await AnsweredAsync<SconceResourceExhaustedException>(Answer(0, ""))).Message, StringComparison.Ordinal);
        Assert.Contains("without an answer", (await AnsweredAsync<SconceUnavailableException>(Answer(0, "")[..200])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_answer_that_does_not_come_is_a_deadline_that_passed_and_one_that_is_not_waited_for_a_cancellation()
    {
        using var listener = Listen();
        await using var client = new SconceClient(new SconceClientOptions { Address = "http://127.0.0.1:1", SharedMemorySocket = Path, Timeout = TimeSpan.FromMilliseconds(50) });
        Assert.Contains("SconceClientOptions.Timeout", (await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => client.RentSharedRegionAsync(1))).Message, StringComparison.Ordinal);
        using var cancellation = new CancellationTokenSource();
        var renting = client.With(new() { Timeout = Timeout.InfiniteTimeSpan }).RentSharedRegionAsync(1, cancellation.Token);
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => renting);
    }

    [Fact]
    public async Task Without_a_path_the_option_is_named()
    {
        await using var client = new SconceClient("http://127.0.0.1:1");
        Assert.Contains("SconceClientOptions.SharedMemorySocket", (await Assert.ThrowsAsync<InvalidOperationException>(() => client.RentSharedRegionAsync(1))).Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => client.RentSharedRegionAsync(0));
    }

    [Fact]
    public void A_state_dict_is_laid_out_with_every_tensor_aligned()
    {
        var layout = SafetensorsLayout.Of(new StateDict
        {
            ["a\"é"] = TensorData.Create(new byte[] { 1, 2, 3 }, 3),
            ["w"] = TensorData.Create(new[] { 1f, 2f }, 2, 1),
            ["n"] = TensorData.Scalar(5L),
        });

        Assert.Equal(0, layout.Header.Length % 64);
        Assert.Equal(layout.Header.Length - 8, BinaryPrimitives.ReadInt64LittleEndian(layout.Header));
        Assert.Equal(layout.Header.Length + 19, layout.FileBytes);
        using var header = JsonDocument.Parse(layout.Header.AsMemory(8));
        Assert.Equal(
            ["a\"é U8 [3] [16,19]", "w F32 [2,1] [8,16]", "n I64 [] [0,8]"],
            header.RootElement.EnumerateObject().Select(entry => $"{entry.Name} {entry.Value.GetProperty("dtype")} {entry.Value.GetProperty("shape")} {entry.Value.GetProperty("data_offsets")}"));
        Assert.Equal([8, 8, 3], layout.Tensors.Select(tensor => tensor.Bytes.Length));
    }

    [Fact]
    public void What_the_format_cannot_hold_is_named()
    {
        foreach (var (key, tensor) in ((string, TensorData)[])[("z", TensorData.Scalar(System.Numerics.Complex.One)), ("__metadata__", TensorData.Scalar(1f)), ("k", TensorData.Kept("t")), ("n", TensorData.None)])
        {
            Assert.Contains($"'{key}'", Assert.Throws<ArgumentException>(() => SharedRegion.BytesOf(new StateDict { [key] = tensor })).Message, StringComparison.Ordinal);
        }
    }

    private static byte[] Answer(ushort status, string message)
    {
        var answer = new byte[256];
        "SCON"u8.CopyTo(answer);
        answer[4] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(answer.AsSpan(6), status);
        Encoding.UTF8.GetBytes(message, answer.AsSpan(48));
        return answer;
    }

    private Socket Listen()
    {
        File.Delete(Path);
        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(Path));
        listener.Listen();
        return listener;
    }

    /// <summary>Rents of a server that answers so and closes, and expects it to throw.</summary>
    private async Task<T> AnsweredAsync<T>(byte[] answer)
        where T : SconceException
    {
        using var listener = Listen();
        await using var client = new SconceClient(new SconceClientOptions { Address = "http://127.0.0.1:1", SharedMemorySocket = Path });
        var renting = client.RentSharedRegionAsync(7);
        using (var caller = await listener.AcceptAsync())
        {
            var request = new byte[16];
            Assert.Equal(16, await caller.ReceiveAsync(request));
            Assert.Equal([.. "SCON"u8, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0], request);
            await caller.SendAsync(answer);
        }

        return Assert.IsType<T>(await Assert.ThrowsAnyAsync<SconceException>(() => renting));
    }
}
