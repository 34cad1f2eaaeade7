using Google.Protobuf.WellKnownTypes;
using Sconce.V1;

namespace Sconce.Client.Tests;

internal static class Graphs
{
    public static ForwardResponse Recorded(ForwardRequest request)
    {
        var response = Fakes.Echo(request);
        response.Graph = new LiveGraph { Id = "g1", Expires = Timestamp.FromDateTimeOffset(DateTimeOffset.UnixEpoch), EstimatedBytes = 64 };
        return response;
    }
}
