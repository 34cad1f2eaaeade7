using Microsoft.Win32.SafeHandles;
using Sconce.Client.Internal;

namespace Sconce.Client;

/// <summary>
/// Memory that this process and the server both have, to put weights into that the server then loads (<see cref="RemoteModule.LoadStateSharedAsync(SharedRegion, LoadStateDictOptions?, long, string, CancellationToken)"/>,
/// <see cref="CreateModuleOptions.StateRegion"/>): they cross no wire. Rented by <see cref="SconceClient.RentSharedRegionAsync"/>; Linux only. Dispose it when the loads from it have returned: on the server it counts
/// against limits until then. It can be written anew and loaded from again, and ends with the server.
/// </summary>
/// <remarks>
/// Members may be used from many threads. What is written while the server loads may be loaded or not, or have the load refused: leave the region alone until it has returned.
/// </remarks>
public sealed class SharedRegion : IDisposable
{
    private readonly RegionSocket _connection;

    private SharedRegion(RegionSocket connection) => _connection = connection;

    /// <summary>Its id. Whoever has it may have the server load from the region, so it is no word for logs.</summary>
    public string Id => _connection.Id;

    /// <summary>Its size in bytes.</summary>
    public long Length => _connection.Bytes;

    /// <summary>
    /// The memory as a file, e.g. for a mapping by <see cref="System.IO.MemoryMappedFiles.MemoryMappedFile"/>; the region owns it, and its size cannot change. Its bytes are zero at first. Once the region is
    /// disposed a mapping reads zeros, and what is written to it reaches nobody.
    /// </summary>
    public SafeFileHandle FileHandle => _connection.File;

    /// <summary>Writes bytes.</summary>
    /// <param name="bytes">The bytes.</param>
    /// <param name="offset">Where they go, from the region's begin.</param>
    /// <exception cref="ArgumentOutOfRangeException">They do not fit there.</exception>
    /// <exception cref="ObjectDisposedException">The region has been disposed.</exception>
    public void Write(ReadOnlySpan<byte> bytes, long offset = 0)
    {
        CheckPlace(offset, bytes.Length);
        RandomAccess.Write(FileHandle, bytes, offset);
    }

    /// <summary>Reads bytes.</summary>
    /// <param name="buffer">Where they go; it is filled.</param>
    /// <param name="offset">Where they begin in the region.</param>
    /// <exception cref="ArgumentOutOfRangeException">There are fewer.</exception>
    /// <exception cref="ObjectDisposedException">The region has been disposed.</exception>
    public void Read(Span<byte> buffer, long offset = 0)
    {
        CheckPlace(offset, buffer.Length);
        for (var read = 0; read < buffer.Length;)
            read += RandomAccess.Read(FileHandle, buffer[read..], offset + read);
    }

    /// <summary>Writes a state dict, as the bytes of a safetensors file, from the region's begin on.</summary>
    /// <param name="state">The tensors, whose elements are here.</param>
    /// <returns>How many bytes that took: what a load of them is told.</returns>
    /// <exception cref="ArgumentException">They need more bytes than the region has (<see cref="BytesOf"/> tells how many), or a tensor is of a kind that the format does not hold, such as complex128.</exception>
    /// <exception cref="ObjectDisposedException">The region has been disposed.</exception>
    public long WriteStateDict(StateDict state)
    {
        ArgumentNullException.ThrowIfNull(state);
        return Write(SafetensorsLayout.Of(state));
    }

    /// <summary>How many bytes <see cref="WriteStateDict"/> needs.</summary>
    /// <param name="state">The tensors.</param>
    /// <exception cref="ArgumentException">A tensor is of a kind that the format does not hold, such as complex128, or its elements are not here.</exception>
    public static long BytesOf(StateDict state)
    {
        ArgumentNullException.ThrowIfNull(state);
        return SafetensorsLayout.Of(state).FileBytes;
    }

    /// <summary>The region as a stream from its begin, e.g. to copy a file into it. It ends where the region does, and is written to at once.</summary>
    /// <returns>A stream that needs no disposing; it can be used until the region is disposed.</returns>
    public Stream OpenStream() => new RegionStream(this);

    /// <summary>Gives the memory back: at once, or when a load that reads it has.</summary>
    public void Dispose() => _connection.Dispose();

    internal static async Task<SharedRegion> RentAsync(Rpc rpc, long bytes, CallSettings? settings, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        if (!OperatingSystem.IsLinux())
            throw new PlatformNotSupportedException("Shared regions are Linux's alone; LoadStateDictAsync takes weights over the wire.");
        var path = rpc.SharedMemorySocket
            ?? throw new InvalidOperationException("SconceClientOptions.SharedMemorySocket is not set; set it to the path that the server has as shared_memory_socket.");
        var timeout = settings?.Timeout ?? rpc.Timeout;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(timeout ?? System.Threading.Timeout.InfiniteTimeSpan);
        try
        {
            return new SharedRegion(await RegionSocket.RentAsync(path, bytes, limit.Token).ConfigureAwait(false));
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new ErrorDetails(
                Grpc.Core.StatusCode.DeadlineExceeded,
                $"no shared region of {bytes} bytes was had at {path} within {timeout} (SconceClientOptions.Timeout or CallSettings.Timeout sets the limit).").ToException(e);
        }
    }

    internal long Write(SafetensorsLayout layout)
    {
        if (layout.FileBytes > Length)
            throw new ArgumentException($"The state dict takes {layout.FileBytes} bytes, and the region has {Length}: rent one of SharedRegion.BytesOf(state) bytes.");
        Write(layout.Header);
        var at = (long)layout.Header.Length;
        foreach (var tensor in layout.Tensors)
        {
            Write(tensor.Bytes.Span, at);
            at += tensor.Bytes.Length;
        }

        return layout.FileBytes;
    }

    private void CheckPlace(long offset, int count)
    {
        if (offset < 0 || count > Length - offset)
            throw new ArgumentOutOfRangeException(nameof(offset), offset, $"{count} bytes from there on are not within the region, which has {Length}.");
    }
}
