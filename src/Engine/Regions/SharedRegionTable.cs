using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Sconce.Engine.Execution;
using Sconce.Engine.Weights;

namespace Sconce.Engine.Regions;

/// <summary>The shared regions of a host, by id. Each is charged to the memory ledger from before it is made until its memory has been given back.</summary>
public sealed class SharedRegionTable
{
    private const int IdDigits = 32;

    private readonly EngineOptions _options;
    private readonly MemoryLedger _ledger;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, SharedRegion> _regions = new(StringComparer.Ordinal);
    private int _count;
    private bool _closed;

    internal SharedRegionTable(EngineOptions options, MemoryLedger ledger) => (_options, _ledger) = (options, ledger);

    /// <summary>How many there are, those among them that are out of use and still read.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _count;
            }
        }
    }

    /// <summary>Makes a region. It takes the time that it takes to clear its memory.</summary>
    /// <param name="bytes">Its size.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>The region, which the caller disposes.</returns>
    /// <exception cref="EngineException">
    /// It is empty (INVALID_ARGUMENT); it is too large, or there are too many, or the memory budget or the system has no room (RESOURCE_EXHAUSTED); or the host is being disposed (UNAVAILABLE).
    /// </exception>
    public SharedRegion Rent(ulong bytes, CancellationToken cancellationToken = default)
    {
        if (bytes == 0)
        {
            throw EngineException.Invalid("bytes", "is 0; a shared region has at least 1 byte");
        }

        if (bytes > (ulong)_options.MaxSharedRegionBytes)
        {
            throw new EngineException(EngineError.ResourceExhausted, "REGION_TOO_LARGE",
                $"a shared region of {bytes:N0} bytes was asked for; the most is {_options.MaxSharedRegionBytes:N0}: ask for less, or raise max_shared_region_bytes")
            {
                Quota = new QuotaRef("max_shared_region_bytes", (long)Math.Min(bytes, long.MaxValue), 0, _options.MaxSharedRegionBytes),
            };
        }

        Reserve();
        var region = Make((long)bytes, cancellationToken);
        lock (_lock)
        {
            if (!_closed)
            {
                _regions.Add(region.Id, region);
                return region;
            }
        }

        region.Dispose();
        throw Admission.Draining();
    }

    /// <summary>Opens what a caller has put into a region. What it then writes there meanwhile can be read or not; it is checked after it was copied.</summary>
    /// <param name="state">The region, and how much of it.</param>
    /// <returns>The bytes, which the caller disposes; until then the region lasts.</returns>
    /// <exception cref="EngineException">There is no such region (NOT_FOUND), it has fewer bytes (INVALID_ARGUMENT), or the host offers none (FAILED_PRECONDITION).</exception>
    internal (ByteSource Content, StateOrigin Origin) Open(SharedStateRef state)
    {
        if (!_options.OffersSharedRegions)
        {
            throw EngineException.Precondition(
                "SHARED_REGIONS_OFF", "this server shares no memory with its callers: its operator has not set shared_memory_socket; LoadStateDict takes weights over the wire");
        }

        if (state.Region.Length != IdDigits || !state.Region.All(char.IsAsciiHexDigitLower))
        {
            throw EngineException.Invalid(state.Field + "region", $"is {EngineException.Quote(state.Region)}; the id of a shared region is {IdDigits} hexadecimal digits in lower case", "BAD_REGION_ID");
        }

        SharedRegion? region;
        lock (_lock)
        {
            _regions.TryGetValue(state.Region, out region);
        }

        if (region is not null && state.Bytes > (ulong)region.Bytes)
        {
            throw EngineException.Invalid(state.Field + "bytes", $"is {state.Bytes:N0}; the region has {region.Bytes:N0}");
        }

        return region?.TryRead(state.Bytes == 0 ? region.Bytes : (long)state.Bytes) is { } content
            ? (content, new StateOrigin("shared region", region.ShortId, state.Field + "region", state.RootKey, state.Field + "root_key"))
            : throw EngineException.NotFound("region", state.Region, "a region ends with the connection that it was rented on; rent another at shared_memory_socket");
    }

    /// <summary>Makes no more, and takes all out of use.</summary>
    internal void Close()
    {
        List<SharedRegion> regions;
        lock (_lock)
        {
            _closed = true;
            regions = [.. _regions.Values];
        }

        regions.ForEach(region => region.Dispose());
    }

    private SharedRegion Make(long bytes, CancellationToken cancellationToken)
    {
        MemoryCharge? charge = null;
        try
        {
            charge = new MemoryCharge(_ledger, MemoryUse.SharedRegions, "a region of", "shared memory", MemoryFile.InPages(bytes));
            return new SharedRegion(RandomNumberGenerator.GetHexString(IdDigits, lowercase: true), Create(bytes, cancellationToken), bytes, charge, Forget, Unreserve);
        }
        catch
        {
            charge?.Dispose();
            Unreserve();
            throw;
        }
    }

    private void Reserve()
    {
        lock (_lock)
        {
            if (_closed)
            {
                throw Admission.Draining();
            }

            if (_count >= _options.MaxSharedRegions)
            {
                throw EngineException.Exhausted("a shared region", new QuotaRef("max_shared_regions", 1, _count, _options.MaxSharedRegions));
            }

            _count++;
        }
    }

    private void Unreserve()
    {
        lock (_lock)
        {
            _count--;
        }
    }

    private void Forget(SharedRegion region)
    {
        lock (_lock)
        {
            _regions.Remove(region.Id);
        }
    }

    private static SafeFileHandle Create(long bytes, CancellationToken cancellationToken)
    {
        try
        {
            return MemoryFile.Create(bytes, cancellationToken);
        }
        catch (IOException exception)
        {
            throw new EngineException(EngineError.ResourceExhausted, "SHARED_MEMORY_UNAVAILABLE",
                $"the system gave no shared memory of {bytes:N0} bytes: it may be short of memory or of file handles; ask for less, or the server's operator", exception);
        }
    }
}
