using System.Buffers.Binary;
using System.Text;
using Sconce.Engine;
using Sconce.Engine.Regions;
using Sconce.Server.Interceptors;

namespace Sconce.Server.Regions;

/// <summary>
/// What is said on the socket for shared memory (docs/shared-memory.md): a request of 16 bytes, and an answer of 256 with which the memory's file handle comes. Numbers are
/// little-endian.
/// </summary>
internal static class RegionProtocol
{
    /// <summary>Bytes of a request: the mark, the version, 2 bytes of zero, the size of the region.</summary>
    public const int RequestBytes = 16;

    /// <summary>Bytes of an answer: the mark, the version, a gRPC status, the size of the region, its id, and of a refusal the reason in words.</summary>
    public const int AnswerBytes = 256;

    private const int VersionAt = 4;
    private const int ReservedAt = 6;
    private const int StatusAt = 6;
    private const int SizeAt = 8;
    private const int IdAt = 16;
    private const int MessageAt = 48;
    private const ushort Version = 1;

    private static ReadOnlySpan<byte> Mark => "SCON"u8;

    /// <summary>The size of the region that is asked for.</summary>
    /// <exception cref="EngineException">The request is no such one, or of another version.</exception>
    public static ulong ReadRequest(ReadOnlySpan<byte> request)
    {
        if (!request.StartsWith(Mark))
        {
            throw EngineException.Invalid("", "this is no request for shared memory: it does not begin with SCON; gRPC is served at unix_socket", "BAD_REGION_REQUEST");
        }

        if (BinaryPrimitives.ReadUInt16LittleEndian(request[VersionAt..]) is not Version and var version)
        {
            throw new EngineException(EngineError.Unimplemented, "BAD_REGION_REQUEST", $"the request is of version {version}; this server speaks version {Version}");
        }

        return BinaryPrimitives.ReadUInt16LittleEndian(request[ReservedAt..]) == 0 ? BinaryPrimitives.ReadUInt64LittleEndian(request[SizeAt..])
            : throw EngineException.Invalid("", "bytes 6 and 7 of the request are not zero", "BAD_REGION_REQUEST");
    }

    /// <summary>The answer that hands a region over.</summary>
    public static byte[] Answer(SharedRegion region)
    {
        var answer = Answer(0);
        BinaryPrimitives.WriteUInt64LittleEndian(answer.AsSpan(SizeAt), (ulong)region.Bytes);
        Encoding.ASCII.GetBytes(region.Id, answer.AsSpan(IdAt));
        return answer;
    }

    /// <summary>The answer that refuses one.</summary>
    public static byte[] Answer(EngineException refusal) => Refusal((ushort)StatusMapping.Code(refusal.Error), refusal.Message);

    /// <summary>The answer to a caller of another user.</summary>
    public static byte[] NotAllowed(uint user) => Refusal((ushort)Grpc.Core.StatusCode.PermissionDenied, $"the caller's user, {user}, is not the server's, nor root");

    private static byte[] Refusal(ushort status, string message)
    {
        var answer = Answer(status);

        // What does not fit is left out, at a character's edge; a zero ends it.
        Encoding.UTF8.GetEncoder().Convert(message, answer.AsSpan(MessageAt..^1), flush: true, out _, out _, out _);
        return answer;
    }

    private static byte[] Answer(ushort status)
    {
        var answer = new byte[AnswerBytes];
        Mark.CopyTo(answer);
        BinaryPrimitives.WriteUInt16LittleEndian(answer.AsSpan(VersionAt), Version);
        BinaryPrimitives.WriteUInt16LittleEndian(answer.AsSpan(StatusAt), status);
        return answer;
    }
}
